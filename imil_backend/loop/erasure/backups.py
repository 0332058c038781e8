"""Backups of which the audit trail tells; what was erased is in those that were made before."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.loop.base import audit
from imil_backend.store.tables import AuditEntry


def backups_since(session: Session, first: datetime | None) -> tuple[str, ...]:
    """Where they were written, with the time; without a first moment, all of them."""
    noted = select(AuditEntry).where(AuditEntry.event == audit.BACKED_UP).order_by(AuditEntry.id)
    if first is not None:
        noted = noted.where(AuditEntry.at >= first)
    made = session.scalars(noted)
    return tuple(dict.fromkeys(f"{each.details['file']} ({each.at:%Y-%m-%d %H:%M} UTC)" for each in made))
