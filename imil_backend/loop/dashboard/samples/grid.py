"""A page of a dataset's samples: chosen, sorted and cut."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnExpressionArgument, Select, exists, func, select
from sqlalchemy.orm import Session

from imil_backend.label_studio.labeling.answers import Answer
from imil_backend.learning.contract.training_job import SPLITS
from imil_backend.loop.answers.pseudonyms import SIMULATED, Names, called
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.states import Purpose
from imil_backend.loop.dashboard.datasets import dataset_of
from imil_backend.loop.dashboard.keeping import Kept, answers_stamp, contradicted_samples
from imil_backend.loop.dashboard.people import names_of, who_answered
from imil_backend.loop.dashboard.samples.columns import NOTHING, Columns, columns_of, compared
from imil_backend.loop.splitting.exclusion import EXPLAINED
from imil_backend.store.tables import Annotation, Dataset, Project, Round, Sample, Task

PAGE = 60  # samples
_ASKS = (Task.purpose == Purpose.ASKED.value, ~Task.deleted)
Chosen = NDArray[np.bool_]  # (samples,)

# What the model says of a sample, by the word in the address.
MODEL: dict[str, tuple[str, Callable[[Columns], Chosen]]] = {
    "wrong": ("is wrong", lambda columns: (columns.predicted >= 0) & (columns.predicted != columns.labels)),
    "right": ("is right", lambda columns: (columns.predicted >= 0) & (columns.predicted == columns.labels)),
    "doubted": ("doubts the label", lambda columns: columns.doubted),
    "became-right": ("became right", lambda columns: columns.became_right),
    "became-wrong": ("became wrong", lambda columns: columns.became_wrong),
}

# What samples are sorted by, smallest first; the order of import decides between equals.
ORDERS: dict[str, tuple[str, Callable[[Columns], NDArray[np.float32]]]] = {
    "import": ("as imported", lambda columns: np.zeros(len(columns.ids), np.float32)),
    "margin": ("confidently wrong first", lambda columns: columns.margin),
    "certainty": ("least certain first", lambda columns: np.abs(columns.margin)),
}


@dataclass(frozen=True)
class Asked:
    """What a visitor wants to see; what is None or unknown chooses nothing."""

    label: str | None = None
    split: str | None = None
    model: str | None = None  # a name in MODEL
    answer: str | None = None  # a value of Answer
    annotator: str | None = None  # as pages call annotators
    round: int | None = None  # that asked about them
    disagree: bool = False  # several people answered, and not the same
    order: str = "import"  # a name in ORDERS
    page: int = 1


@dataclass(frozen=True)
class Shown:
    """A sample in the grid."""

    key: str
    name: str
    label: str
    split: str
    excluded: str | None
    predicted: str | None
    probability: float
    is_wrong: bool
    doubted: bool
    change: str | None  # "became right" or "became wrong"
    dice: float | None
    answers: tuple[tuple[str, str], ...]  # who, what


@dataclass(frozen=True)
class Grid:
    """What the page of the samples shows."""

    dataset: str
    classes: tuple[str, ...]
    annotators: tuple[str, ...]
    rounds: tuple[int, ...]  # that asked about samples, the latest first
    asked: Asked
    samples: tuple[Shown, ...]
    count: int  # that were chosen
    all: int
    pages: int
    compared: str | None  # the versions of "became right" and "became wrong"


def grid_of(backend: Backend, dataset_id: int, asked: Asked, *, among: Collection[int] | None = None) -> Grid:
    """A page of samples.

    Args:
        backend: the store and the files.
        dataset_id: whose.
        asked: what is wanted.
        among: ids of the samples that are shown at all; without it, all.

    Raises:
        NotFoundError: there is no dataset of this number.
    """
    with backend.store.begin() as session:
        dataset = dataset_of(session, dataset_id)
        columns, names = columns_of(session, dataset), names_of(backend, session, dataset_id)
        chosen = _chosen(session, dataset, columns, names, asked)
        if among is not None:
            chosen &= np.isin(columns.ids, list(among))
        places = _sorted(columns, chosen, asked.order)
        pages = max(1, -(-len(places) // PAGE))
        page = min(max(asked.page, 1), pages)
        shown = _shown(session, dataset, columns, names, places[(page - 1) * PAGE : page * PAGE])
        pair = compared(session, dataset_id)
        annotators = who_answered(session, dataset_id, names)
        rounds = tuple(session.scalars(_rounds(dataset_id)))
    return Grid(
        dataset=dataset.name,
        classes=tuple(dataset.classes),
        annotators=annotators,
        rounds=rounds,
        asked=Asked(**{**vars(asked), "page": page}),
        samples=shown,
        count=len(places),
        all=len(columns.ids),
        pages=pages,
        compared=f"{pair.champion.name} to {pair.candidate.name}" if pair else None,
    )


def _chosen(session: Session, dataset: Dataset, columns: Columns, names: Names, asked: Asked) -> Chosen:
    chosen = np.ones(len(columns.ids), np.bool_)
    if asked.label in dataset.classes:
        chosen &= columns.labels == dataset.classes.index(asked.label)
    if asked.split in SPLITS:
        chosen &= columns.splits == SPLITS.index(asked.split)
    if asked.model in MODEL:
        chosen &= MODEL[asked.model][1](columns)
    if asked.disagree:
        stamp = (*answers_stamp(session, dataset.id), "disagree")
        chosen &= np.isin(columns.ids, _kept.get(stamp, lambda: _disputed(session, dataset.id)))
    if asked.round is not None and (ids := session.scalars(_asked_in(dataset.id, asked.round)).all()):
        chosen &= np.isin(columns.ids, ids)  # what is no round filters nothing, like other unknown values
    answered = _answered(dataset, names, asked)
    if answered is not None:
        stamp = (*answers_stamp(session, dataset.id), asked.answer, asked.annotator)
        chosen &= np.isin(columns.ids, _kept.get(stamp, lambda: np.array(session.scalars(answered).all())))
    return chosen


_kept = Kept[NDArray[np.int64]]()


def _disputed(session: Session, dataset_id: int) -> NDArray[np.int64]:
    """The ids of the samples that people have painted or answered differently."""
    unlike = select(Sample.id).where(Sample.dataset_id == dataset_id, Sample.agreement < 1)
    return np.array([*{*session.scalars(unlike), *contradicted_samples(session, dataset_id)}], np.int64)


def _rounds(dataset_id: int) -> Select[int]:
    asking = exists().where(Task.round_id == Round.id, *_ASKS)
    found = select(Round.number).where(Round.dataset_id == dataset_id, asking)
    return found.order_by(Round.number.desc())


def _asked_in(dataset_id: int, number: int) -> Select[int]:
    """The ids of the samples that a round asked about."""
    found = select(Task.sample_id).join(Round, Round.id == Task.round_id).where(*_ASKS)
    return found.where(Round.dataset_id == dataset_id, Round.number == number)


def _answered(dataset: Dataset, names: Names, asked: Asked) -> Select[int] | None:
    """The ids of the samples with such an answer; None if any will do."""
    by = _by(names, asked.annotator)
    if asked.answer not in set(Answer) and by is None:
        return None
    found = (
        select(Annotation.sample_id)
        .join(Project, Project.id == Annotation.project_id)
        .where(Project.dataset_id == dataset.id, ~Annotation.deleted)
        .where(~Annotation.task.has(purpose=Purpose.GOLD.value))
    )
    if asked.answer in set(Answer):
        found = found.where(Annotation.answer == asked.answer)
    if by is not None:
        found = found.where(by)
    return found.distinct()


def _by(names: Names, asked: str | None) -> ColumnExpressionArgument[bool] | None:
    """What holds of the annotations of who is called that; None of nobody."""
    if asked == SIMULATED:
        return Annotation.simulated
    people = [NOTHING if key is None else key for key, name in names.items() if name == asked]
    if not people:
        return None
    return ~Annotation.simulated & func.coalesce(Annotation.annotator, NOTHING).in_(people)


def _sorted(columns: Columns, chosen: Chosen, order: str) -> NDArray[np.int64]:
    """The places of the chosen samples, in order; those without a value come last."""
    places = np.flatnonzero(chosen)
    _, key = ORDERS.get(order, ORDERS["import"])
    return places[np.argsort(key(columns)[places], kind="stable")]


def _shown(
    session: Session, dataset: Dataset, columns: Columns, names: Names, places: NDArray[np.int64]
) -> tuple[Shown, ...]:
    ids = columns.ids[places].tolist()
    samples = {each.id: each for each in session.scalars(select(Sample).where(Sample.id.in_(ids)))}
    answers = defaultdict(list)
    standing = select(Annotation).where(Annotation.sample_id.in_(ids), ~Annotation.deleted)
    standing = standing.where(~Annotation.task.has(purpose=Purpose.GOLD.value))
    for each in session.scalars(standing.order_by(Annotation.id)):
        answers[each.sample_id].append((called(each, names), each.answer))
    return tuple(
        _one(samples[number], dataset, columns, place, answers[number])
        for number, place in zip(ids, places.tolist(), strict=True)
    )


def _one(
    sample: Sample, dataset: Dataset, columns: Columns, place: int, answers: Sequence[tuple[str, str]]
) -> Shown:
    predicted = int(columns.predicted[place])
    change = "became right" if columns.became_right[place] else None
    return Shown(
        key=sample.key,
        name=sample.name,
        label=sample.label,
        split=sample.split,
        excluded=EXPLAINED.get(sample.excluded, sample.excluded) if sample.excluded else None,
        predicted=None if predicted == NOTHING else dataset.classes[predicted],
        probability=float(columns.probability[place]),
        is_wrong=predicted not in {NOTHING, int(columns.labels[place])},
        doubted=bool(columns.doubted[place]),
        change="became wrong" if columns.became_wrong[place] else change,
        dice=sample.agreement,
        answers=tuple(answers),
    )
