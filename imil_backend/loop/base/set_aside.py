"""What cannot be used is recorded with its reason; the rest continues."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.loop.base.backend import Backend
from imil_backend.store.tables import SetAside


def set_aside(backend: Backend, dataset_id: int, kind: str, reference: str, reason: str) -> None:
    """Record that something cannot be used, and why; the latest reason is kept."""
    with backend.store.begin() as session:
        note_set_aside(session, dataset_id, [(kind, reference, reason)])


def note_set_aside(session: Session, dataset_id: int, items: Iterable[tuple[str, str, str]]) -> None:
    """Record several (kind, reference, reason); each once, with its latest reason."""
    items = [(kind, reference[:1000], reason[:2000]) for kind, reference, reason in items]
    if not items:
        return
    noted = {
        (row.kind, row.reference): row
        for row in session.scalars(select(SetAside).where(SetAside.dataset_id == dataset_id))
    }
    for kind, reference, reason in items:
        row = noted.get((kind, reference))
        if row is None:
            row = SetAside(dataset_id=dataset_id, kind=kind, reference=reference)
            noted[kind, reference] = row
            session.add(row)
        row.reason = reason


def forget_set_aside(session: Session, dataset_id: int, kind: str, references: Iterable[str]) -> None:
    """Remove the records of things that can be used now."""
    fine = set(references)
    noted = select(SetAside).where(SetAside.dataset_id == dataset_id, SetAside.kind == kind)
    for row in session.scalars(noted):
        if row.reference in fine:
            session.delete(row)
