"""Who has answered: how much, how fast, what, and how far they agree with others."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, median
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from imil_backend.label_studio.labeling.answers import Answer
from imil_backend.loop.answers.pseudonyms import Names, name_of
from imil_backend.loop.answers.sample_states import standing_answers
from imil_backend.loop.asking.gold import GoldFigures, gold_figures
from imil_backend.loop.base import audit
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.states import ANSWERS, EXCLUDED_AS, Purpose
from imil_backend.loop.dashboard.datasets import dataset_of
from imil_backend.loop.dashboard.given_answers import WORDS
from imil_backend.loop.dashboard.keeping import Kept, answers_stamp, stamp_of
from imil_backend.loop.dashboard.people import names_of
from imil_backend.loop.views.answers_set_aside import set_aside
from imil_backend.store.tables import Annotation, Dataset, Project, Sample

SHOWN = 50  # of what was set aside
# An annotator's key, and whether the simulated clinician answered in that name.
_Who = tuple[int | None, bool]


@dataclass(frozen=True)
class Annotator:
    """What one person has answered, or the simulated clinician.

    Attributes:
        answers: how many annotations stand, by what they mean.
        seconds: a task, the median of those whose time Label Studio has told.
        timed: how many these are.
        dice: on the samples that others painted too, the mean Dice between all who painted; 0..1.
        shared: how many samples these are.
        gold: how far gold tasks were answered as is known; None: none was.
    """

    name: str
    simulated: bool
    answers: Mapping[str, int]
    seconds: float | None
    timed: int
    dice: float | None
    shared: int
    gold: GoldFigures | None

    @property
    def count(self) -> int:
        """Annotations that stand."""
        return sum(self.answers.values())


@dataclass(frozen=True)
class Pair:
    """Two annotators on the samples that both have answered."""

    names: tuple[str, str]
    samples: int
    same: int  # given the same answer
    dice: float | None  # mean, of the samples that these two alone have painted
    painted: int  # how many these are


@dataclass(frozen=True)
class Unused:
    """Something that was set aside, and why."""

    reference: str
    reason: str
    link: str | None


@dataclass(frozen=True)
class Annotators:
    """What the page of the annotators shows."""

    dataset: str
    kinds: Mapping[str, str]  # of answers that occur, in words
    annotators: tuple[Annotator, ...]  # in the order of their first answer
    pairs: tuple[Pair, ...]
    set_aside: tuple[Unused, ...]  # the first SHOWN
    all_set_aside: int

    @property
    def has_gold(self) -> bool:
        """Whether anybody has answered a gold task."""
        return any(each.gold for each in self.annotators)


def annotators_of(backend: Backend, dataset_id: int) -> Annotators:
    """Who has answered about a dataset's samples.

    Raises:
        NotFoundError: there is no dataset of this number.
    """
    with backend.store.begin() as session:
        dataset = dataset_of(session, dataset_id)
        names = names_of(backend, session, dataset_id)
        named = stamp_of(session, dataset_id, audit.GOLD)
        stamp = (*answers_stamp(session, dataset_id), *named, *names.values())
        found, pairs = _kept.get(stamp, lambda: _figures(backend, session, dataset_id, names))
        unused, count = _set_aside(backend, session, dataset)
    kinds = {kind for each in found for kind in each.answers}
    return Annotators(
        dataset=dataset.name,
        kinds={kind: words for kind, words in WORDS.items() if kind in kinds},
        annotators=found,
        pairs=pairs,
        set_aside=unused,
        all_set_aside=count,
    )


_Figures = tuple[tuple[Annotator, ...], tuple[Pair, ...]]
_kept = Kept[_Figures]()


def _figures(backend: Backend, session: Session, dataset_id: int, names: Names) -> _Figures:
    shared = _shared(session, dataset_id)
    gold = _gold(backend, session, dataset_id)
    return tuple(_annotators(session, dataset_id, names, shared, gold)), tuple(_pairs(shared, names))


def _gold(backend: Backend, session: Session, dataset_id: int) -> dict[_Who, GoldFigures]:
    given = standing_answers(session, dataset_id, Purpose.GOLD)
    return {
        (annotator, simulated): figures
        for simulated in (False, True)
        for annotator, figures in gold_figures(
            backend, session, [each for each in given if each.simulated == simulated]
        ).items()
    }


def _standing(dataset_id: int, *columns: Any) -> Any:
    return (
        select(*columns)
        .join(Project, Project.id == Annotation.project_id)
        .where(Project.dataset_id == dataset_id, ~Annotation.deleted)
    )


def _annotators(
    session: Session,
    dataset_id: int,
    names: Names,
    shared: Mapping[int, Sequence[_Reading]],
    gold: Mapping[_Who, GoldFigures],
) -> list[Annotator]:
    who = (Annotation.annotator, Annotation.simulated)
    counted = _standing(dataset_id, *who, Annotation.answer, func.count()).group_by(*who, Annotation.answer)
    answers: dict[_Who, Counter[str]] = defaultdict(Counter)
    for annotator, simulated, answer, count in session.execute(counted):
        answers[annotator, simulated][answer] += count
    times: dict[_Who, list[float]] = defaultdict(list)
    timed = _standing(dataset_id, *who, Annotation.lead_time).where(Annotation.lead_time.is_not(None))
    for annotator, simulated, seconds in session.execute(timed):
        times[annotator, simulated].append(seconds)
    dices: dict[_Who, list[float]] = defaultdict(list)
    for readings in shared.values():
        for each in readings:
            if each.agreement is not None and each.answer not in EXCLUDED_AS:
                dices[each.who].append(each.agreement)
    place = _places(names)
    return [
        Annotator(
            name=name_of(*who, names),
            simulated=who[1],
            answers=answers[who],
            seconds=median(times[who]) if times[who] else None,
            timed=len(times[who]),
            dice=fmean(dices[who]) if dices[who] else None,
            shared=len(dices[who]),
            gold=gold.get(who),
        )
        for who in sorted(answers, key=place)
    ]


def _places(names: Names) -> Callable[[_Who], tuple[int, bool]]:
    """The order of the first answers."""
    order = list(names)
    return lambda who: (order.index(who[0]), who[1])


@dataclass(frozen=True)
class _Reading:
    """What somebody answered last to a sample that others have answered too."""

    who: _Who
    answer: str
    agreement: float | None  # of the sample


def _shared(session: Session, dataset_id: int) -> dict[int, list[_Reading]]:
    """The readings of the samples that several people have answered, by sample."""
    reader = func.coalesce(Annotation.annotator, 0)
    asked = Annotation.task.has(purpose=Purpose.ASKED.value)
    several = (
        _standing(dataset_id, Annotation.sample_id)
        .where(Annotation.answer.in_(ANSWERS), asked)
        .group_by(Annotation.sample_id)
        .having(func.count(func.distinct(reader)) > 1)
    )
    who = (Annotation.annotator, Annotation.simulated)
    columns = (Annotation.sample_id, *who, Annotation.answer, Sample.agreement)
    found = (
        select(*columns)
        .join(Sample, Sample.id == Annotation.sample_id)
        .where(Annotation.sample_id.in_(several), asked)
        .where(~Annotation.deleted, Annotation.answer.in_(ANSWERS))
        .order_by(Annotation.label_studio_updated_at, Annotation.id)
    )
    latest: dict[int, dict[int | None, _Reading]] = defaultdict(dict)
    for sample, annotator, simulated, answer, agreement in session.execute(found):
        latest[sample][annotator] = _Reading((annotator, simulated), answer, agreement)
    return {sample: list(readings.values()) for sample, readings in latest.items()}


def _pairs(shared: Mapping[int, Sequence[_Reading]], names: Names) -> Iterable[Pair]:
    both: dict[tuple[_Who, _Who], list[tuple[bool, float | None]]] = defaultdict(list)
    place = _places(names)
    for readings in shared.values():
        painting = [each for each in readings if each.answer not in EXCLUDED_AS]
        for pair in combinations(sorted(readings, key=lambda each: place(each.who)), 2):
            alone = len(painting) == 2 and all(each in painting for each in pair)
            own = (pair[0].answer == pair[1].answer, pair[0].agreement if alone else None)
            both[pair[0].who, pair[1].who].append(own)
    for (one, other), found in sorted(both.items(), key=lambda item: [place(each) for each in item[0]]):
        dices = [agreement for _, agreement in found if agreement is not None]
        yield Pair(
            names=(name_of(*one, names), name_of(*other, names)),
            samples=len(found),
            same=sum(same for same, _ in found),
            dice=fmean(dices) if dices else None,
            painted=len(dices),
        )


def _set_aside(backend: Backend, session: Session, dataset: Dataset) -> tuple[tuple[Unused, ...], int]:
    """The first of what was set aside, and how much was in all."""
    unread = _standing(dataset.id, Annotation).where(Annotation.answer == Answer.SET_ASIDE.value)
    items = set_aside(backend, session, dataset, session.scalars(unread.order_by(Annotation.id.desc())))
    shown = [Unused(str(each["reference"]), str(each["reason"]), each.get("link")) for each in items[:SHOWN]]
    return tuple(shown), len(items)
