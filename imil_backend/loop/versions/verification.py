"""Checks that versions still have the weights that were trained."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.errors import StoreError
from imil_backend.files import sha256_of
from imil_backend.learning.contract.training_job import MODEL_FILE
from imil_backend.loop.versions.removed_weights import removed_weights
from imil_backend.store.tables import Dataset, Version


def verify_versions(session: Session, dataset: Dataset) -> None:
    """Check that the weights of a dataset's versions are unchanged, but for those that were removed.

    Raises:
        StoreError: some are missing or were changed; the message names their versions.
    """
    removed = removed_weights(session, dataset.id)
    hashed = select(Version).where(Version.dataset_id == dataset.id, Version.model_sha256.is_not(None))
    versions = session.scalars(hashed.order_by(Version.id))
    check_weights(version for version in versions if version.id not in removed)


def check_weights(versions: Iterable[Version]) -> None:
    """Check that the weights of these versions are unchanged, where their hash was kept.

    Raises:
        StoreError: some are missing or were changed; the message names their versions.
    """
    changed = [version.name for version in versions if not _is_sound(version)]
    if changed:
        raise StoreError(
            f"The weights of {', '.join(changed)} are missing or have changed since they were trained. "
            "Restore the files from a backup, or make another version the champion (`imil promote`)."
        )


def _is_sound(version: Version) -> bool:
    path = Path(version.directory) / MODEL_FILE
    return path.is_file() and version.model_sha256 in {None, sha256_of(path)}
