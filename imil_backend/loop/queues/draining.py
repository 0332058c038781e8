"""Drains a worker: it takes no more work, and ends when what is under way is done."""

from __future__ import annotations

import time
from pathlib import Path

from imil_backend.errors import RoundError
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.queues.launching import worker_lock

_SECONDS_BETWEEN_LOOKS = 0.5


def drain(backend: Backend, worker_id: str) -> bool:
    """Have a worker drained, on whatever host it runs, and wait until it has ended.

    If this is interrupted before the worker has noticed, it works on.

    Returns:
        Whether such a worker was running.

    Raises:
        SettingsError: the id is invalid.
    """
    if _is_free(backend, worker_id):
        return False
    request = _request(backend, worker_id)
    request.touch()
    try:
        # A supervisor may have started it again at once; that takes the request back.
        while request.exists() and not _is_free(backend, worker_id):
            time.sleep(_SECONDS_BETWEEN_LOOKS)
    finally:
        request.unlink(missing_ok=True)
    return True


def drain_is_wanted(backend: Backend, worker_id: str) -> bool:
    """Whether somebody waits for this worker to be drained."""
    return _request(backend, worker_id).exists()


def forget_drain(backend: Backend, worker_id: str) -> None:
    """Take back what was asked of an earlier worker of this id."""
    _request(backend, worker_id).unlink(missing_ok=True)


def _is_free(backend: Backend, worker_id: str) -> bool:
    try:
        with worker_lock(backend, worker_id):
            return True
    except RoundError:
        return False


def _request(backend: Backend, worker_id: str) -> Path:
    return backend.path("locks", f"drain-{worker_id}")
