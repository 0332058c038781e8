"""Agreement of the readers of the same samples, and the samples on which they disagree.

A reviewer is no reader, and the answers of gold tasks are compared with what is known.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import comb

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from imil_backend.loop.answers.counted import COUNTS
from imil_backend.loop.base.states import ANSWERS, Purpose
from imil_backend.store.tables import Annotation, Round, Sample, Task


@dataclass(frozen=True)
class Readings:
    """The answers of several people to one sample.

    Attributes:
        sample: with `agreement`, the mean Dice of their masks.
        answers: the latest of each annotator, the first annotator first.
    """

    sample: Sample
    answers: tuple[Annotation, ...]

    @property
    def same(self) -> float:
        """The share of pairs of readers who gave the same answer, 0..1."""
        return sum(comb(count, 2) for count in self.counts.values()) / self.pairs

    @property
    def pairs(self) -> int:
        """How many pairs of readers there are."""
        return comb(len(self.answers), 2)

    @property
    def counts(self) -> Counter[str]:
        """How many gave which answer."""
        return Counter(answer.answer for answer in self.answers)

    @property
    def agrees(self) -> bool:
        """Whether all gave the same answer and painted the same."""
        return self.same == 1 and self.sample.agreement in {None, 1.0}


@dataclass(frozen=True)
class Agreement:
    """The figures over some samples.

    Attributes:
        samples: how many were answered by several people.
        pairs: of readers of the same sample.
        same: the share of pairs of readers who gave the same answer, the mean over the samples.
        kappa: the same less what chance alone would give (Fleiss, 1971); None where everybody always gave
            one and the same answer.
        dice: the mean over the samples where at least two people painted, or said that there is nothing to
            paint; None without such.
        painted: how many samples these are.
    """

    samples: int
    pairs: int
    same: float
    kappa: float | None
    dice: float | None
    painted: int


def several_readings(session: Session, dataset_id: int, round_id: int | None = None) -> list[Readings]:
    """The samples that several people answered, in a round or in all; the least agreement first."""
    wanted = [Sample.dataset_id == dataset_id, COUNTS]
    if round_id is not None:
        wanted.append(Task.round_id == round_id)
    people = func.count(func.distinct(func.coalesce(Annotation.annotator, 0)))
    samples = (
        select(Annotation.sample_id)
        .join(Annotation.task)
        .join(Annotation.sample)
        .where(*wanted)
        .group_by(Annotation.sample_id)
        .having(people > 1)
    )
    found = (
        select(Annotation)
        .join(Annotation.task)
        .join(Annotation.sample)
        .where(*wanted, Annotation.sample_id.in_(samples))
    )
    return readings_of(session.scalars(found))


def contradicted(dataset_id: int) -> Select[tuple[int]]:
    """The ids of samples given different answers by different people, and no reviewer's.

    Of each person the latest answer counts.
    """
    latest_first = (Annotation.label_studio_updated_at.desc(), Annotation.id.desc())
    reader = func.coalesce(Annotation.annotator, 0)
    place = func.row_number().over(partition_by=(Annotation.sample_id, reader), order_by=latest_first)
    answers = (
        select(Annotation.sample_id, Annotation.answer, place.label("place"))
        .join(Annotation.task)
        .join(Round, Round.id == Task.round_id)
        .where(Round.dataset_id == dataset_id, Task.purpose == Purpose.ASKED.value)
        .where(~Annotation.deleted, Annotation.answer.in_(ANSWERS))
        .subquery()
    )
    reviewed = select(Annotation.sample_id).where(
        ~Annotation.deleted,
        Annotation.answer.in_(ANSWERS),
        Annotation.task.has(purpose=Purpose.REVIEW.value),
    )
    return (
        select(answers.c.sample_id)
        .where(answers.c.place == 1, answers.c.sample_id.not_in(reviewed))
        .group_by(answers.c.sample_id)
        .having(func.count(func.distinct(answers.c.answer)) > 1)
    )


def readings_of(standing: Iterable[Annotation]) -> list[Readings]:
    """The samples that several people were asked, among these annotations; the least agreement first."""
    latest: dict[int, dict[int | None, Annotation]] = defaultdict(dict)
    for annotation in sorted(standing, key=lambda each: (each.label_studio_updated_at, each.id)):
        if annotation.answer in ANSWERS and annotation.task.purpose == Purpose.ASKED.value:
            latest[annotation.sample_id][annotation.annotator] = annotation
    several = [_readings(answers) for answers in latest.values() if len(answers) > 1]
    return sorted(several, key=lambda each: (each.same, _dice(each.sample), each.sample.name))


def agreement_of(readings: Sequence[Readings]) -> Agreement | None:
    """The figures over these samples, if there are any."""
    if not readings:
        return None
    painted = [each.sample.agreement for each in readings if each.sample.agreement is not None]
    return Agreement(
        samples=len(readings),
        pairs=sum(each.pairs for each in readings),
        same=sum(each.same for each in readings) / len(readings),
        kappa=_kappa(readings),
        dice=sum(painted) / len(painted) if painted else None,
        painted=len(painted),
    )


def _readings(answers: Mapping[int | None, Annotation]) -> Readings:
    by_annotator = sorted(answers.values(), key=lambda answer: (answer.user or 0, answer.annotator or 0))
    return Readings(by_annotator[0].sample, tuple(by_annotator))


def _dice(sample: Sample) -> float:
    return 1.0 if sample.agreement is None else sample.agreement


def _kappa(readings: Sequence[Readings]) -> float | None:
    given: Counter[str] = sum((each.counts for each in readings), Counter())
    by_chance = sum((count / given.total()) ** 2 for count in given.values())
    observed = sum(each.same for each in readings) / len(readings)
    return None if by_chance == 1 else (observed - by_chance) / (1 - by_chance)
