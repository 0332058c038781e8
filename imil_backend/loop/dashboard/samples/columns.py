"""What is known of all samples of a dataset, as columns in memory: filters and orders are quick on 100,000.

Columns are made anew when samples were added or excluded, or another version came: answers are not in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from imil_backend.learning.contract.training_job import (
    MINING_FILE,
    PREDICTIONS_FILE,
    SPLITS,
    read_json,
)
from imil_backend.learning.scoring.metrics import margins
from imil_backend.loop.base import audit
from imil_backend.loop.dashboard.keeping import Kept, stamp_of
from imil_backend.loop.versions.champions import champion_of
from imil_backend.store.tables import Dataset, Round, Sample, Version

NOTHING = -1
Places = Mapping[str, int]  # of the samples in the columns, by key
_SMALLEST_PROBABILITY = 1e-12


@dataclass(frozen=True)
class Columns:
    """The samples in the order of their import; each column is (samples,)."""

    ids: NDArray[np.int64]
    labels: NDArray[np.int16]  # indices into the dataset's classes
    splits: NDArray[np.int8]  # indices into SPLITS
    excluded: NDArray[np.bool_]
    # Of the champion, of training samples when they were mined, and of validation samples; test samples are
    # for reports alone. NOTHING or NaN where it was not asked.
    predicted: NDArray[np.int16]
    probability: NDArray[np.float32]  # of the predicted class
    margin: NDArray[np.float32]  # see `metrics.margins`
    doubted: NDArray[np.bool_]  # the label may be wrong
    # Of validation samples, from the latest round's champion to its candidate.
    became_right: NDArray[np.bool_]
    became_wrong: NDArray[np.bool_]


@dataclass(frozen=True)
class Compared:
    """The two versions of the latest round that has closed."""

    champion: Version
    candidate: Version
    round: int


def compared(session: Session, dataset_id: int) -> Compared | None:
    """The versions that the latest round compared; None before there is any."""
    latest = (
        select(Round.number, Version)
        .join(Version, Version.id == Round.version_id)
        .where(Round.dataset_id == dataset_id, Version.parent_id.is_not(None))
        .order_by(Round.number.desc())
        .limit(1)
    )
    for number, candidate in session.execute(latest):
        return Compared(session.get_one(Version, candidate.parent_id), candidate, number)
    return None


def columns_of(session: Session, dataset: Dataset) -> Columns:
    """The columns of a dataset, kept as long as they hold."""
    samples = select(func.count(Sample.id), func.max(Sample.id)).where(Sample.dataset_id == dataset.id)
    champion, pair = champion_of(session, dataset.id), compared(session, dataset.id)
    versions = (champion, pair.champion, pair.candidate) if pair else (champion, None, None)
    stamp = (
        *stamp_of(session, dataset.id, audit.LEFT_OUT),
        *session.execute(samples).one(),
        *(each.id if each else None for each in versions),
    )
    return _kept.get(stamp, lambda: _made(session, dataset, *versions))


_kept = Kept[Columns]()


def _made(
    session: Session,
    dataset: Dataset,
    champion: Version | None,
    before: Version | None,
    after: Version | None,
) -> Columns:
    found = select(Sample.id, Sample.key, Sample.label, Sample.split, Sample.excluded.is_not(None))
    rows = session.execute(found.where(Sample.dataset_id == dataset.id).order_by(Sample.id)).all()
    places = {row[1]: place for place, row in enumerate(rows)}
    classes = {name: number for number, name in enumerate(dataset.classes)}
    splits: dict[str, int] = {name: number for number, name in enumerate(SPLITS)}
    count = len(rows)
    columns = Columns(
        ids=np.fromiter((row[0] for row in rows), np.int64, count),
        labels=np.fromiter((classes.get(row[2], NOTHING) for row in rows), np.int16, count),
        splits=np.fromiter((splits.get(row[3], NOTHING) for row in rows), np.int8, count),
        excluded=np.fromiter((row[4] for row in rows), np.bool_, count),
        predicted=np.full(count, NOTHING, np.int16),
        probability=np.full(count, np.nan, np.float32),
        margin=np.full(count, np.nan, np.float32),
        doubted=np.zeros(count, np.bool_),
        became_right=np.zeros(count, np.bool_),
        became_wrong=np.zeros(count, np.bool_),
    )
    if champion is not None:
        _add_mined(columns, places, champion)
        _add_predicted(columns, places, champion)
    if before is not None and after is not None:
        _add_changes(columns, places, before, after)
    return columns


def _add_mined(columns: Columns, places: Places, version: Version) -> None:
    path = Path(version.directory) / MINING_FILE
    records = [each for each in read_json(path) if each["key"] in places] if path.exists() else []
    own = np.array([places[each["key"]] for each in records], np.int64)
    for name in ("predicted", "probability", "margin"):
        getattr(columns, name)[own] = [each[name] for each in records]
    columns.doubted[own] = [each["likely_label_error"] for each in records]


def _add_predicted(columns: Columns, places: Places, version: Version) -> None:
    own, labels, probabilities = _validation(places, version)
    if not len(own):
        return
    columns.predicted[own] = probabilities.argmax(axis=1)
    columns.probability[own] = probabilities.max(axis=1)
    logits = np.log(np.maximum(probabilities, _SMALLEST_PROBABILITY)).astype(np.float32)  # but for a constant
    columns.margin[own] = margins(logits, labels)


def _add_changes(columns: Columns, places: Places, before: Version, after: Version) -> None:
    right = [np.full(len(columns.ids), NOTHING, np.int8) for _ in (before, after)]
    for values, version in zip(right, (before, after), strict=True):
        own, labels, probabilities = _validation(places, version)
        if len(own):
            values[own] = probabilities.argmax(axis=1) == labels
    columns.became_right[:] = (right[0] == 0) & (right[1] == 1)
    columns.became_wrong[:] = (right[0] == 1) & (right[1] == 0)


def _validation(
    places: Places, version: Version
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """The places, labels and probabilities (samples, classes) of the validation split."""
    path = Path(version.directory) / PREDICTIONS_FILE
    split = read_json(path)["validation"] if path.exists() else {"keys": []}
    known = [number for number, key in enumerate(split["keys"]) if key in places]
    if not known:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, 0))
    own = np.array([places[split["keys"][number]] for number in known], np.int64)
    labels = np.array(split["labels"], np.int64)[known]
    return own, labels, np.array(split["probabilities"], np.float64)[known]
