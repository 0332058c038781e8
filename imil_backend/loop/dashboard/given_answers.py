"""The answers that pages count, and how many are the simulated clinician's: one definition for all pages."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from imil_backend.label_studio.labeling.answers import Answer
from imil_backend.loop.answers.counted import COUNTS
from imil_backend.loop.base.states import PAINTED
from imil_backend.loop.dashboard.keeping import Kept, answers_stamp
from imil_backend.store.tables import Annotation, Round, Task

# What pages call an answer.
WORDS = {
    **{each.value: each.value.replace("_", " ") for each in Answer},
    Answer.BLACKOUT.value: "painted",
    Answer.NOTHING.value: "nothing to black out",
}


@dataclass(frozen=True)
class Given:
    """How many answers were given."""

    answers: int
    simulated: int  # of these, those by the simulated clinician


def given(
    session: Session,
    dataset_id: int,
    *,
    number: int | None = None,
    until: int | None = None,
    painted: bool = False,
) -> Given:
    """How many answers to a dataset's rounds count; worked out once, since a page must not count 100,000.

    Args:
        session: of the store.
        dataset_id: of the dataset.
        number: of the only round; None: all.
        until: number of the last round; None: all.
        painted: those alone in which something was painted.
    """
    chosen = [
        each
        for each in _kept.get(answers_stamp(session, dataset_id), lambda: _counts(session, dataset_id))
        if number in {None, each.round}
        and (until is None or each.round <= until)
        and (each.painted or not painted)
    ]
    return Given(sum(each.answers for each in chosen), sum(each.answers for each in chosen if each.simulated))


@dataclass(frozen=True)
class _Count:
    """How many answers of a kind a round was given."""

    round: int  # its number
    painted: bool
    simulated: bool
    answers: int


_kept = Kept[tuple[_Count, ...]]()


def _counts(session: Session, dataset_id: int) -> tuple[_Count, ...]:
    kinds = (Round.number, Annotation.answer == PAINTED, Annotation.simulated)
    found = (
        select(*kinds, func.count(Annotation.id))
        .join(Task, Task.id == Annotation.task_id)
        .join(Round, Round.id == Task.round_id)
        .where(COUNTS, Round.dataset_id == dataset_id)
        .group_by(*kinds)
    )
    return tuple(_Count(*row) for row in session.execute(found))
