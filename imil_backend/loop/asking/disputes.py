"""Answers in dispute: they differ beyond a bound from another reader's, or from the proposed mask."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.loop.answers.agreement import readings_of
from imil_backend.loop.answers.sample_states import CountedAnswer, decides, in_order
from imil_backend.loop.base.states import ANSWERS, Purpose
from imil_backend.store.tables import Annotation, Dataset, Sample, Task


@dataclass(frozen=True)
class Dispute:
    """A task whose answers are in dispute.

    Attributes:
        task: that was asked.
        answers: the latest of each person, the earliest first.
        among_readers: people differ; else the answer differs from the proposed mask.
        dice: the Dice coefficient that is below the bound; None where people gave different answers.
    """

    task: Task
    answers: tuple[Annotation, ...]
    among_readers: bool
    dice: float | None

    @property
    def why(self) -> str:
        """A sentence for the engineer, which names nobody."""
        if self.dice is None:
            return f"{len(self.answers)} people answered, and not the same."
        what = "the masks of its readers" if self.among_readers else "the answer and the proposed mask"
        return f"Dice of {what} is {self.dice:.2f}."


@dataclass(frozen=True)
class Reviews:
    """How far a dataset's disputes are reviewed."""

    open: int  # disputes that were put to nobody yet
    waiting: int  # reviews that nobody has answered
    by_themselves: int  # that were answered by somebody whose own answer is in dispute, and so do not count
    decided: int


def disputes_of(
    session: Session, dataset: Dataset, bound: float, standing: Sequence[Annotation]
) -> list[Dispute]:
    """A dataset's answers in dispute that no review was asked for, those that differ most first.

    Of each sample the latest task counts, since its answers are the latest.

    Args:
        session: of the store.
        dataset: whose samples.
        bound: Dice coefficient, 0..1; less is a dispute.
        standing: the dataset's `standing_answers`.
    """
    tasks = (
        select(Task)
        .join(Task.sample)
        .where(Sample.dataset_id == dataset.id, Sample.excluded.is_(None), ~Task.deleted)
        .order_by(Task.round_id)
    )
    asked, reviewed = {}, set()
    for task in session.scalars(tasks):
        if task.purpose == Purpose.ASKED.value:
            asked[task.sample_id] = task
        elif task.purpose == Purpose.REVIEW.value:
            reviewed.add((task.round_id, task.sample_id))
    answers = _by_task(standing)
    found = (
        _dispute(task, answers[task.id], bound)
        for task in asked.values()
        if (task.round_id, task.sample_id) not in reviewed and task.id in answers
    )
    return sorted((each for each in found if each), key=lambda each: (each.dice or 0.0, each.task.id))


def reviews_of(session: Session, dataset: Dataset, bound: float, standing: Sequence[Annotation]) -> Reviews:
    """How far a dataset's disputes are reviewed; all as in `disputes_of`."""
    tasks = select(Task).join(Task.sample).where(Sample.dataset_id == dataset.id, ~Task.deleted)
    reviews = session.scalars(tasks.where(Task.purpose == Purpose.REVIEW.value)).all()
    by_sample = defaultdict(list)
    for annotation in standing:
        if annotation.answer in ANSWERS:
            by_sample[annotation.sample_id].append(CountedAnswer.of(annotation))
    waiting = by_themselves = decided = 0
    for review in reviews:
        given = by_sample[review.sample_id]
        own = [each for each in given if each.task_id == review.id]
        decided += any(decides(each, given) for each in own)
        waiting += not own
        by_themselves += bool(own) and not any(decides(each, given) for each in own)
    return Reviews(len(disputes_of(session, dataset, bound, standing)), waiting, by_themselves, decided)


def _by_task(standing: Sequence[Annotation]) -> dict[int, list[Annotation]]:
    """The answers by task, the earliest first; of each person the latest."""
    latest: dict[int, dict[int | None, Annotation]] = defaultdict(dict)
    for annotation in in_order(standing):
        latest[annotation.task_id][annotation.annotator] = annotation
    return {task: list(answers.values()) for task, answers in latest.items()}


def _dispute(task: Task, answers: Sequence[Annotation], bound: float) -> Dispute | None:
    readings = next(iter(readings_of(answers)), None)
    if readings is not None and readings.same < 1:
        return Dispute(task, tuple(answers), True, None)
    agreement = task.sample.agreement if readings else None
    if agreement is not None and agreement < bound:
        return Dispute(task, tuple(answers), True, agreement)
    proposed = [each.proposal_dice for each in answers if each.proposal_dice is not None]
    if proposed and min(proposed) < bound:
        return Dispute(task, tuple(answers), False, min(proposed))
    return None
