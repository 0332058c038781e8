"""The lines of `imil doctor`, looked at in the background: no page waits for Label Studio or for torch."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from datetime import datetime

from imil_backend.loop.base.backend import Backend
from imil_backend.loop.upkeep.check_results import CheckResult
from imil_backend.loop.upkeep.doctor import examine
from imil_backend.store.tables import now

SECONDS_BETWEEN_CHECKS = 300.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checked:
    """What the doctor found, and when it had."""

    results: tuple[CheckResult, ...]
    at: datetime


class Checks:
    """The latest results; asking for them begins the next checks when it is time."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._lock = threading.Lock()
        self._began = float("-inf")
        self._checked: Checked | None = None

    def latest(self, *, wait: bool = False) -> Checked | None:
        """The results of the last checks, or None until the first ones have ended, which one may wait for."""
        with self._lock:
            if time.monotonic() - self._began > SECONDS_BETWEEN_CHECKS:
                self._began = time.monotonic()
                thread = threading.Thread(target=self._look, name="checks", daemon=True)
                thread.start()
                if wait:
                    thread.join()
        return self._checked

    def _look(self) -> None:
        try:
            self._checked = Checked(tuple(examine(self._backend, probe=False)), now())
        except Exception:  # a check that fails in an unknown way must not be silent, nor end the process
            logger.exception("The checks of the dashboard failed")
