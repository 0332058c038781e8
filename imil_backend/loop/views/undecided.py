"""Whether a verdict waits for a person."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.loop.rounds.lifecycle import find_closed_round
from imil_backend.loop.versions.champions import UNDECIDED, rejected_versions
from imil_backend.store.tables import Promotion


def undecided_since(session: Session, dataset_id: int) -> datetime | None:
    """Since when the latest verdict waits for a person; None where it does not."""
    closed = find_closed_round(session, dataset_id)
    if closed is None or (closed.verdict or {}).get("verdict") != UNDECIDED:
        return None
    if closed.version_id is not None and closed.version_id in rejected_versions(session, dataset_id):
        return None
    return closed.changed_at if _promoted_at(session, dataset_id) < closed.changed_at else None


def _promoted_at(session: Session, dataset_id: int) -> datetime:
    """When a version was last promoted; a closed round with a verdict had a champion."""
    latest = select(Promotion.created_at).where(Promotion.dataset_id == dataset_id)
    return session.scalars(latest.order_by(Promotion.id.desc()).limit(1)).one()
