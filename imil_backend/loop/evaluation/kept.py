"""The evaluation of a version: `evaluation.json` and SVGs in its report's folder.

The worker writes them with the report, and pages read them: nothing is worked out while somebody waits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.learning.contract.training_job import (
    PREDICTIONS_FILE,
    RESULT_FILE,
    read_json,
    write_json,
)
from imil_backend.learning.evaluation.evaluation import Evaluation, Predicted, evaluate, predicted
from imil_backend.learning.plots.discrimination import draw_discrimination
from imil_backend.learning.plots.progress import Measured, draw_learning_curves, draw_rounds
from imil_backend.learning.plots.reliability import draw_reliability
from imil_backend.learning.plots.themed import Plot
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.evaluation.changes import keep_changes, read_kept
from imil_backend.loop.evaluation.reasons import keep_reasons
from imil_backend.store.tables import Dataset, Round, Version

REPORT_FOLDER = "report"  # of a version's directory
EVALUATION_FILE = "evaluation.json"
SHOWN = ("validation", "test")


@dataclass(frozen=True)
class KeptEvaluation:
    """What was kept of a version.

    Attributes:
        splits: what each split showed; one without samples is absent.
        plots: of the version, and of each split.
    """

    splits: Mapping[str, Evaluation]
    plots: Sequence[Plot]
    plots_of: Mapping[str, Sequence[Plot]]


def evaluate_round(backend: Backend, round_id: int) -> None:
    """Work out and draw everything of the version that a round has trained, and what it changed; keep it."""
    with backend.store.begin() as session:
        round_ = session.get_one(Round, round_id)
        if round_.version is not None:
            evaluate_version(session, round_.version)
            keep_changes(session, round_, folder_of(round_.version))
            keep_reasons(backend, session, round_, folder_of(round_.version))


def evaluate_version(session: Session, version: Version) -> KeptEvaluation:
    """Work out and draw everything of a version, and keep it; an earlier evaluation is replaced."""
    classes = session.get_one(Dataset, version.dataset_id).classes
    directory = folder_of(version)
    directory.mkdir(exist_ok=True)
    predictions = read_json(Path(version.directory) / PREDICTIONS_FILE)
    found = {name: split for name in SHOWN if (split := predicted(predictions[name])) is not None}
    splits = {name: evaluate(split) for name, split in found.items()}
    plots_of = {name: _plots(directory, name, found[name], splits[name], classes) for name in splits}
    kept = KeptEvaluation(splits, _plots_of_version(session, version, splits), plots_of)
    write_json(directory / EVALUATION_FILE, asdict(kept))
    return kept


def kept_evaluation(version: Version) -> KeptEvaluation | None:
    """What was kept; None of a version of another release, whose report was not written again."""
    return read_kept(folder_of(version) / EVALUATION_FILE, _as_kept)


def _as_kept(raw: Mapping[str, Any]) -> KeptEvaluation:
    return KeptEvaluation(
        splits={name: Evaluation.from_dict(split) for name, split in raw["splits"].items()},
        plots=_as_plots(raw["plots"]),
        plots_of={name: _as_plots(plots) for name, plots in raw["plots_of"].items()},
    )


def folder_of(version: Version) -> Path:
    """The folder of a version's report."""
    return Path(version.directory) / REPORT_FOLDER


def _as_plots(raw: Sequence[Mapping[str, Any]]) -> list[Plot]:
    return [Plot(**each) for each in raw]


def _plots(
    directory: Path, split: str, found: Predicted, evaluation: Evaluation, classes: Sequence[str]
) -> list[Plot]:
    curves = draw_discrimination(directory, split, found, classes)
    return [*curves, draw_reliability(directory, split, evaluation)]


def _plots_of_version(session: Session, version: Version, splits: Mapping[str, Evaluation]) -> list[Plot]:
    plots, result = [], Path(version.directory) / RESULT_FILE
    if result.exists():
        found = read_json(result)
        plots.append(draw_learning_curves(folder_of(version), found["epochs"], found["best_epoch"]))
    measured = [*_earlier(session, version), *_measured(session, version, splits)]
    if measured:
        plots.append(draw_rounds(folder_of(version), measured))
    return plots


def _earlier(session: Session, version: Version) -> list[Measured]:
    """What the validation split showed of each version before this one; worked out where it was not kept."""
    found = select(Version).where(Version.dataset_id == version.dataset_id, Version.id < version.id)
    measured = []
    for each in session.scalars(found.order_by(Version.id)):
        splits = (kept_evaluation(each) or evaluate_version(session, each)).splits
        measured += _measured(session, each, splits)
    return measured


def _measured(session: Session, version: Version, splits: Mapping[str, Evaluation]) -> list[Measured]:
    number = session.scalar(select(Round.number).where(Round.version_id == version.id))
    if number is None or "validation" not in splits:
        return []
    return [Measured(number, splits["validation"].estimates)]
