"""The rounds of a dataset, one a line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from imil_backend.loop.base.backend import Backend
from imil_backend.loop.dashboard.datasets import dataset_of
from imil_backend.loop.dashboard.given_answers import given
from imil_backend.loop.dashboard.keeping import Kept, answers_stamp
from imil_backend.loop.rounds.lifecycle import Answered, answered_in_all
from imil_backend.store.tables import Dataset, Round, Task


@dataclass(frozen=True)
class RoundLine:
    """A round in the list of rounds."""

    number: int
    is_baseline: bool
    state: str  # one of loop.base.states
    version: str | None  # that came out
    tasks: int
    answered: int  # of the tasks, by as many people as are to read each
    simulated: int  # answers by the simulated clinician
    verdict: str | None  # promote, reject, undecided; None: not yet, or never
    reason: str | None  # of the verdict
    error: str | None
    changed_at: datetime


@dataclass(frozen=True)
class Rounds:
    """What the page of rounds shows."""

    dataset_id: int
    dataset: str
    lines: tuple[RoundLine, ...]  # the latest first


_kept = Kept[Mapping[int, Answered]]()


def _answered(session: Session, dataset_id: int) -> Mapping[int, Answered]:
    """How far the tasks of all rounds are answered, by the rounds' ids."""
    tasks = select(func.count(Task.id), func.max(Task.id)).where(~Task.deleted)
    rounds = select(func.max(Round.id), func.sum(Round.readers))
    counts = (*session.execute(tasks).one(), *session.execute(rounds).one())
    stamp = (*answers_stamp(session, dataset_id), *counts)
    return _kept.get(stamp, lambda: answered_in_all(session, dataset_id))


def rounds_of(backend: Backend, dataset_id: int) -> Rounds:
    """All rounds of a dataset.

    Raises:
        NotFoundError: there is no dataset of this number.
    """
    with backend.store.begin() as session:
        dataset: Dataset = dataset_of(session, dataset_id)
        found = select(Round).where(Round.dataset_id == dataset_id).order_by(Round.number.desc())
        lines, answered = [], _answered(session, dataset_id)
        for round_ in session.scalars(found):
            progress, verdict = answered[round_.id], round_.verdict or {}
            lines.append(
                RoundLine(
                    number=round_.number,
                    is_baseline=round_.is_baseline,
                    state=round_.state,
                    version=round_.version.name if round_.version else None,
                    tasks=progress.tasks,
                    answered=progress.answered,
                    simulated=given(session, dataset_id, number=round_.number).simulated,
                    verdict=verdict.get("verdict"),
                    reason=verdict.get("reason"),
                    error=round_.error,
                    changed_at=round_.changed_at,
                )
            )
    return Rounds(dataset.id, dataset.name, tuple(lines))
