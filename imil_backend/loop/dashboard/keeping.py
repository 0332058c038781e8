"""What is worked out once and kept in memory until something has changed that it was made of."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from imil_backend.loop.answers.agreement import contradicted
from imil_backend.loop.base import audit
from imil_backend.store.tables import AuditEntry

T = TypeVar("T")
Stamp = tuple[Hashable, ...]


class Kept(Generic[T]):
    """The latest values by their stamps.

    Args:
        most: of so many datasets.
    """

    def __init__(self, most: int = 4) -> None:
        self._most = most
        self._values: dict[Stamp, T] = {}

    def get(self, stamp: Stamp, make: Callable[[], T]) -> T:
        """The value of this stamp, made if it is not there; the oldest ones go."""
        if (found := self._values.get(stamp)) is not None:
            return found
        made = self._values[stamp] = make()
        for old in list(self._values)[: -self._most]:
            self._values.pop(old, None)
        return made


def stamp_of(session: Session, dataset_id: int, *events: str) -> Stamp:
    """Another one as soon as one of these events has happened to the dataset, as the audit trail has it."""
    latest = select(func.max(AuditEntry.id)).where(AuditEntry.dataset_id == dataset_id)
    # An index has each event's latest entry at hand.
    entries = (session.scalar(latest.where(AuditEntry.event == event)) for event in events)
    return (session.get_bind(), dataset_id, *entries)


def answers_stamp(session: Session, dataset_id: int) -> Stamp:
    """Another one as soon as an answer to the dataset's samples has come, changed or gone."""
    return stamp_of(session, dataset_id, audit.ANSWERED, audit.WITHDRAWN, audit.ERASED)


def contradicted_samples(session: Session, dataset_id: int) -> frozenset[int]:
    """The ids of samples that were given different answers by different people."""
    stamp = answers_stamp(session, dataset_id)
    return _contradicted.get(stamp, lambda: frozenset(session.scalars(contradicted(dataset_id))))


_contradicted = Kept[frozenset[int]]()
