"""Versions whose weights were removed to free disk space: their rows, metrics and reports stay."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.errors import StoreError
from imil_backend.learning.contract.training_job import MODEL_FILE
from imil_backend.loop.base import audit
from imil_backend.store.tables import AuditEntry, Version


def removed_weights(session: Session, dataset_id: int) -> dict[int, datetime]:
    """When the weights of a dataset's versions were removed, by the version's id.

    A version whose file is there, because somebody has restored it, has its weights.
    """
    entries = (
        select(Version.id, Version.directory, AuditEntry.at)
        .join(AuditEntry, AuditEntry.version_id == Version.id)
        .where(AuditEntry.dataset_id == dataset_id, AuditEntry.event == audit.WEIGHTS_REMOVED)
        .order_by(AuditEntry.id)
    )
    return {
        version_id: at
        for version_id, directory, at in session.execute(entries)
        if not (Path(directory) / MODEL_FILE).exists()
    }


def check_weights_kept(session: Session, version: Version) -> None:
    """Check that a version's weights were not removed.

    Raises:
        StoreError: they were.
    """
    removed_at = removed_weights(session, version.dataset_id).get(version.id)
    if removed_at is not None:
        raise StoreError(
            f"The weights of {version.name} were removed on {removed_at:%Y-%m-%d} to free disk space (`imil "
            f"gc`); its metrics and reports are still there. Restore {Path(version.directory) / MODEL_FILE} "
            "from a backup that was made before, or choose a version that has its weights (`imil models`)."
        )
