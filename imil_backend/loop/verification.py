"""Whether versions are still what was trained."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.errors import StoreError
from imil_backend.learning.job import MODEL_FILE
from imil_backend.loop.files import sha256_of
from imil_backend.store.tables import Dataset, Version


def verify_versions(session: Session, dataset: Dataset) -> None:
    """See that the weights of a dataset's versions are those that were trained.

    Raises:
        StoreError: some are missing or were changed; the message names their versions.
    """
    kept = select(Version).where(Version.dataset_id == dataset.id, Version.model_sha256.is_not(None))
    versions = session.scalars(kept.order_by(Version.id))
    changed = [version.name for version in versions if not _is_sound(version)]
    if changed:
        raise StoreError(
            f"The weights of {', '.join(changed)} are missing, or not those that were trained. Take the "
            "files from a backup, or make another version the champion (`imil promote`)."
        )


def _is_sound(version: Version) -> bool:
    path = Path(version.directory) / MODEL_FILE
    return path.is_file() and sha256_of(path) == version.model_sha256
