"""A dataset with a round that was painted, trained and judged; what its networks say is made up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from loop_fakes import (
    LENIENT,
    RESULT,
    FakeLabelStudio,
    chosen,
    make_backend,
    make_dataset,
    make_project,
    make_round,
    make_version,
    mask_of,
    region,
    shortcut_results,
    training_samples,
)

from imil_backend.label_studio.api.simulated_clinician import META
from imil_backend.learning.contract.evidence import EVIDENCE_FILE, Evidence, write_evidence
from imil_backend.learning.contract.training_job import (
    PREDICTIONS_FILE,
    RESULT_FILE,
    SHORTCUT_FILE,
    TrainingSample,
    read_json,
    write_json,
)
from imil_backend.learning.scoring.comparison import compare
from imil_backend.learning.scoring.power import Margins
from imil_backend.loop.answers.reconcile import reconcile
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.states import CLOSED
from imil_backend.loop.rounds.report import report_round
from imil_backend.loop.versions.champions import promote
from imil_backend.loop.versions.shortcut_results import about
from imil_backend.store.tables import Dataset, Round, Version

EPOCHS = [
    {"epoch": number, "train_loss": 1 / number, "validation": {"loss": 0.5, "accuracy": 0.75}}
    for number in (1, 2)
]
_MARGINS = {"accuracy": "promotion_margin", "recall": "recall_margin", "auc": "auc_margin"}
WRONG_BEFORE = {"key-validation-0", "key-validation-1", "key-validation-2", "key-test-1"}
WRONG_AFTER = {"key-validation-2", "key-validation-3", "key-test-1"}


@dataclass
class Scene:
    """A closed round 1 of the dataset `films`, from `baseline` to `candidate`."""

    backend: Backend
    label_studio: FakeLabelStudio
    dataset: Dataset
    before: Version
    after: Version
    round_id: int

    @property
    def report(self) -> Path:
        return Path(self.after.directory) / "report"

    def predictions(self, version: Version) -> Any:
        return read_json(Path(version.directory) / PREDICTIONS_FILE)


@contextmanager
def open_scene(directory: Path) -> Iterator[Scene]:
    """The scene on a store of its own, for tests that only read: its plots take a second to draw."""
    backend, label_studio = make_backend(directory), FakeLabelStudio()
    backend.__dict__["label_studio"] = label_studio
    yield make_scene(backend, label_studio)
    backend.close()


def make_scene(
    backend: Backend,
    label_studio: FakeLabelStudio,
    *,
    wrong_before: Sequence[str] | set[str] = WRONG_BEFORE,
    wrong_after: Sequence[str] | set[str] = WRONG_AFTER,
    evidence: bool = True,
    verdict: str | None = None,
    report: bool = True,
) -> Scene:
    """Lay it all down.

    Four training samples were asked: train-0 was painted by two people, train-1 by the simulated clinician,
    train-2 by one person; train-3 is unreadable.
    """
    dataset = make_dataset(backend, train=8, validation=12, test=4)
    names = [f"train-{number}" for number in range(4)]
    before = make_version(backend, dataset, wrong=names)
    project = make_project(backend, dataset)
    round_ = make_round(backend, label_studio, project, before, names)
    _answer(label_studio)
    reconcile(backend, project)
    after = make_version(backend, dataset, "candidate", baseline=before, parent=before, champion=False)
    with backend.store.begin() as session:
        samples = training_samples(session, dataset)
    for seed, (version, wrong) in enumerate(((before, wrong_before), (after, wrong_after))):
        _write(Path(version.directory), samples, set(wrong), seed, evidence=evidence)
    scene = Scene(backend, label_studio, dataset, before, after, round_.id)
    _close(scene, verdict)
    if report:
        report_round(backend, round_.id)
    return scene


def _answer(label_studio: FakeLabelStudio) -> None:
    first, second, third, fourth = sorted(label_studio.tasks_there)
    for by, columns, seconds in ((9, (0, 1), 30.0), (4, (1, 2), 12.0)):
        label_studio.update(label_studio.annotate(first, region(mask_of(*columns)), by=by), lead_time=seconds)
    painted = [{**item, "meta": META} for item in region(mask_of(3))]
    label_studio.update(label_studio.annotate(second, painted, by=1), lead_time=1.0)
    label_studio.annotate(third, region(mask_of(6, 7)), by=9)
    label_studio.annotate(fourth, chosen("unreadable"), by=4)


def _write(
    directory: Path, samples: Sequence[TrainingSample], wrong: set[str], seed: int, *, evidence: bool
) -> None:
    random = np.random.default_rng(seed)
    predictions, kept = {}, {}
    for split in ("train", "validation", "test"):
        own = [sample for sample in samples if sample.split == split]
        labels = np.array([sample.label for sample in own])
        sure = random.uniform(0.55, 0.95, len(own))
        right = np.array([sample.key not in wrong for sample in own])
        label_probability = np.where(right, sure, 1 - sure)
        probabilities = np.empty((len(own), 2))
        probabilities[np.arange(len(own)), labels] = label_probability
        probabilities[np.arange(len(own)), 1 - labels] = 1 - label_probability
        keys = tuple(sample.key for sample in own)
        maps = random.normal(0.05, 0.1, (2, len(own), 7, 7)).astype(np.float16)
        kept[split] = Evidence(keys, labels, probabilities.astype(np.float32), maps[0], maps[1])
        if split != "train":
            predictions[split] = {
                "keys": list(keys),
                "groups": [sample.group for sample in own],
                "labels": labels.tolist(),
                "probabilities": probabilities.tolist(),
            }
    write_json(directory / PREDICTIONS_FILE, predictions)
    write_json(directory / RESULT_FILE, {**RESULT, "epochs": EPOCHS, "best_epoch": 2})
    if evidence:
        write_evidence(directory / EVIDENCE_FILE, kept)


def _close(scene: Scene, verdict: str | None) -> None:
    both = [scene.predictions(version)["validation"] for version in (scene.before, scene.after)]
    margins = Margins({name: LENIENT[field] for name, field in _MARGINS.items()})
    comparison = asdict(compare(*both, judge="plain", margins=margins, classes=scene.dataset.classes))
    test = shortcut_results("baseline", [0.5] * 12, [0.5, 1.0] * 6)
    write_json(Path(scene.after.directory) / SHORTCUT_FILE, test)
    told = {"champion": "baseline", "candidate": "candidate", **comparison, "shortcut": about(test)}
    if verdict is not None:
        told["verdict"] = verdict
    with scene.backend.store.begin() as session:
        version = session.get_one(Version, scene.after.id)
        round_ = session.get_one(Round, scene.round_id)
        round_.version_id, round_.version_name, round_.state = version.id, version.name, CLOSED
        round_.verdict = told
        if told["verdict"] == "promote":
            promote(session, version, "loop", told["reason"])
