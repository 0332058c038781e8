"""Who answered what in a round."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.loop.answers.counted import COUNTS
from imil_backend.loop.answers.pseudonyms import Names, name_of
from imil_backend.loop.base.states import Purpose
from imil_backend.loop.dashboard.given_answers import WORDS
from imil_backend.store.tables import Annotation, Round, Task

_FOR = {Purpose.ASKED.value: "", Purpose.REVIEW.value: " (review)", Purpose.GOLD.value: " (gold task)"}


@dataclass(frozen=True)
class By:
    """The answers of one person, or of the simulated clinician.

    Attributes:
        counts: how many count, by what they say.
        total: of these.
        others: how many do not count, likewise: reviews, and what was skipped or set aside.
        seconds: of both, of those whose time is known; None: of none.
        timed: how many these are.
    """

    name: str
    counts: Mapping[str, int]
    total: int
    others: Mapping[str, int]
    seconds: float | None
    timed: int

    @property
    def given(self) -> int:
        """How many answers there are, those that do not count among them."""
        return self.total + sum(self.others.values())


def in_words(answer: str, purpose: str) -> str:
    """An answer to a task of this purpose, for people."""
    return WORDS.get(answer, answer) + _FOR[purpose]


@dataclass(frozen=True)
class _Answer:
    """What somebody answered."""

    words: str
    counts: bool
    seconds: float | None


def answers_of(session: Session, round_: Round, names: Names) -> list[By]:
    """Who answered what in a round: gold tasks, which ask for what is known, left out."""
    columns = (Annotation.annotator, Annotation.simulated, Annotation.answer, Annotation.lead_time)
    found = (
        select(*columns, Task.purpose, COUNTS)
        .join(Annotation.task)
        .where(Task.round_id == round_.id, Task.purpose != Purpose.GOLD.value, ~Annotation.deleted)
        .order_by(Annotation.id)
    )
    by_name: dict[str, list[_Answer]] = {}
    for annotator, simulated, answer, seconds, purpose, counts in session.execute(found):
        name = name_of(annotator, simulated, names)
        by_name.setdefault(name, []).append(_Answer(in_words(answer, purpose), counts, seconds))
    return [_by(name, own) for name, own in sorted(by_name.items())]


def _by(name: str, own: Sequence[_Answer]) -> By:
    counts, others = (Counter(each.words for each in own if each.counts == does) for does in (True, False))
    times = [each.seconds for each in own if each.seconds is not None]
    return By(name, dict(counts), counts.total(), dict(others), sum(times) if times else None, len(times))
