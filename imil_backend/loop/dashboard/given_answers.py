"""The answers that pages count, and how many are the simulated clinician's: one definition for all pages."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, case, func, select
from sqlalchemy.orm import Session

from imil_backend.label_studio.labeling.answers import Answer
from imil_backend.loop.base.states import ANSWERS, Purpose
from imil_backend.store.tables import Annotation, Round, Task

# Of annotations joined with their tasks. Reviews, gold tasks, and what was skipped or set aside answer
# nothing that a round has asked.
COUNTS = and_(Task.purpose == Purpose.ASKED.value, ~Annotation.deleted, Annotation.answer.in_(ANSWERS))

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


def given(session: Session, *which: ColumnElement[bool]) -> Given:
    """How many answers count.

    Args:
        session: of the store.
        which: what holds of the annotations, their tasks and rounds.
    """
    simulated = func.coalesce(func.sum(case((Annotation.simulated, 1), else_=0)), 0)
    found = (
        select(func.count(Annotation.id), simulated)
        .join(Task, Task.id == Annotation.task_id)
        .join(Round, Round.id == Task.round_id)
        .where(COUNTS, *which)
    )
    return Given(*session.execute(found).one())
