"""The samples that rounds were about: those that were asked, and those that became right or wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.loop.base.backend import Backend
from imil_backend.loop.evaluation.changes import kept_changes
from imil_backend.loop.evaluation.kept import folder_of
from imil_backend.store.tables import Round, Sample, Task

MOST = 2_000  # a page of its own and its pictures take about half a second each


@dataclass(frozen=True)
class InRounds:
    """Samples of a dataset.

    Attributes:
        ids: at most MOST, of the latest rounds.
        all: how many there are of all rounds.
    """

    ids: frozenset[int]
    all: int


def samples_in_rounds(backend: Backend, dataset_id: int) -> InRounds:
    """Gather the samples that the rounds of a dataset were about."""
    with backend.store.begin() as session:
        known = select(Sample.key, Sample.id).where(Sample.dataset_id == dataset_id)
        keys = {row.key: row.id for row in session.execute(known)}
        rounds = select(Round).where(Round.dataset_id == dataset_id).order_by(Round.number.desc())
        found: dict[int, None] = {}
        for round_ in session.scalars(rounds):
            asked, changed = _asked(session, round_), (keys[key] for key in _changed(round_) if key in keys)
            in_turns = chain.from_iterable(zip_longest(asked, changed))
            found.update(dict.fromkeys(each for each in in_turns if each is not None))
    return InRounds(frozenset(list(found)[:MOST]), len(found))


def _asked(session: Session, round_: Round) -> Iterator[int]:
    """The most instructive first; whatever was answered is among them."""
    found = select(Task.sample_id).where(Task.round_id == round_.id).order_by(Task.rank, Task.id)
    return iter(session.scalars(found).all())


def _changed(round_: Round) -> Iterator[str]:
    """Keys of validation samples that became right or wrong, the largest changes first."""
    changes = kept_changes(folder_of(round_.version)) if round_.version else None
    validation = changes.splits.get("validation") if changes else None
    if validation is not None:
        for pair in zip_longest(validation.became_right, validation.became_wrong):
            yield from (each.key for each in pair if each is not None)
