"""When something last happened, as the modification times of empty files in the data directory.

No table: they can be touched while the database cannot be written, and a health check can look at one without
starting Python. They are no history; whoever deletes them loses nothing.
"""

from __future__ import annotations

import logging

from imil_backend.errors import StoreError
from imil_backend.loop.base.backend import Backend

FOLDER = "timestamps"

WORKER = "worker"  # a worker, by its id, was seen working
RECONCILIATION = "reconciliation"  # a project, by its row, was compared with Label Studio to the end
BACKUP = "backup"  # a backup was complete

logger = logging.getLogger(__name__)


def touch(backend: Backend, kind: str, name: object = "") -> None:
    """Note that something has happened now. Where that cannot be written, it is logged and nothing more."""
    try:
        backend.path(FOLDER, f"{kind}-{name}" if name != "" else kind).touch()
    except (OSError, StoreError) as error:
        logger.warning("The time of %s %s cannot be noted: %s", kind, name, error)


def last(backend: Backend, kind: str) -> dict[str, float]:
    """When things of this kind last happened, in seconds since 1970, by their names."""
    folder = backend.directory / FOLDER
    found = [*folder.glob(kind), *folder.glob(f"{kind}-*")]
    return {path.name[len(kind) + 1 :]: path.stat().st_mtime for path in found}
