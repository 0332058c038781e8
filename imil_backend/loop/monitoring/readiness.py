"""Whether the backend can do its work now."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from tempfile import TemporaryFile

from imil_backend.errors import StoreError
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.queues.launching import worker_is_running
from imil_backend.loop.upkeep.doctor_machine import FULL_BYTES

logger = logging.getLogger(__name__)


class Readiness(Enum):
    """How well the backend can do its work."""

    READY = "ready"
    DEGRADED = "degraded"  # events are recorded, and wait
    NOT_READY = "not ready"  # events would be lost


@dataclass(frozen=True)
class ReadinessReport:
    """The readiness, and what is wrong. It names no path, host or dataset: anyone may see it."""

    readiness: Readiness
    problems: dict[str, str]  # by what was looked at


def check_readiness(backend: Backend) -> ReadinessReport:
    """Look at the database, the data directory, its disk, and whether a worker runs."""
    problems = {
        subject: problem for subject, check in _NEEDED.items() if (problem := check(backend)) is not None
    }
    if problems:
        return ReadinessReport(Readiness.NOT_READY, problems)
    if (problem := _worker(backend)) is not None:
        return ReadinessReport(Readiness.DEGRADED, {"worker": problem})
    return ReadinessReport(Readiness.READY, {})


def _database(backend: Backend) -> str | None:
    try:
        backend.store.check_revision()
    except StoreError as error:
        logger.warning("Not ready: %s", error)
        return "The database cannot be used, or is of another release; the log says more."
    return None


def _directory(backend: Backend) -> str | None:
    try:
        with TemporaryFile(dir=backend.directory) as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        logger.warning("Not ready: %s cannot be written: %s", backend.directory, error.strerror)
        return f"The data directory cannot be written: {error.strerror}."
    return None


def _disk(backend: Backend) -> str | None:
    try:
        free = shutil.disk_usage(backend.directory).free
    except OSError as error:
        logger.warning("Not ready: the disk of %s cannot be read: %s", backend.directory, error.strerror)
        return f"The disk of the data directory cannot be read: {error.strerror}."
    if free < FULL_BYTES:
        return f"The disk of the data directory is full: {free // 2**20} MiB are free."
    return None


_NEEDED: dict[str, Callable[[Backend], str | None]] = {
    "database": _database,
    "directory": _directory,
    "disk": _disk,
}


def _worker(backend: Backend) -> str | None:
    if worker_is_running(backend):
        return None
    return "No worker is running: events and rounds wait until `imil worker` is started."
