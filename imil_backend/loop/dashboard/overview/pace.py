"""How fast a round is answered, and when it is likely to close."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from imil_backend.loop.answers.counted import COUNTS
from imil_backend.loop.base.policy import policy_of
from imil_backend.loop.rounds.lifecycle import answered, closes_in_silence, enough
from imil_backend.store.tables import Annotation, Dataset, Round, Task, now

_LOOKED_BACK = timedelta(days=7)


@dataclass(frozen=True)
class Pace:
    """Of an open round.

    Attributes:
        closes_at: so many answered tasks close it.
        answers: that were given since `since`.
        since: when the round began, or a week ago if it is older.
        last: when the last answer was given; None: there is none.
        expected: when it has enough answers if the pace stays; None: there was no answer, or it has enough.
        silence: when it closes if nobody answers any more; None: it does not.
    """

    closes_at: int
    answers: int
    since: datetime
    last: datetime | None
    expected: datetime | None
    silence: datetime | None

    @property
    def a_day(self) -> float:
        """Answers in 24 hours, nights and weekends included."""
        return self.answers / max((now() - self.since) / timedelta(days=1), 1e-9)


def pace_of(session: Session, round_: Round) -> Pace:
    """The pace of an open round."""
    progress, policy = answered(session, round_), policy_of(session.get_one(Dataset, round_.dataset_id))
    needed = enough(progress.tasks, policy)
    since = max(round_.created_at, now() - _LOOKED_BACK)
    found = (
        select(func.count(Annotation.id), func.max(Annotation.label_studio_created_at))
        .join(Annotation.task)
        .where(Task.round_id == round_.id, COUNTS)
    )
    _, last = session.execute(found).one()
    answers, _ = session.execute(found.where(Annotation.label_studio_created_at >= since)).one()
    # Who began a task and shares it has given one answer to it at least.
    left = (needed - progress.answered) * round_.readers - (progress.begun - progress.answered)
    pace = Pace(needed, answers, since, last, None, None)
    if progress.answered >= needed or not progress.begun:
        return pace
    silence = closes_in_silence(session, round_, policy)
    expected = now() + timedelta(days=max(left, 1) / pace.a_day) if answers else None
    return replace(pace, expected=expected, silence=silence)
