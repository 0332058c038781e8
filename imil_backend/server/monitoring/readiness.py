"""/ready: whether the backend can do its work now. /health only tells that the process answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from flask import Blueprint

from imil_backend.loop.monitoring.readiness import Readiness, ReadinessReport

# Anyone may ask, and each check asks the database and writes a file: a check answers all who ask soon after.
FRESH_SECONDS = 1.0
_STARTING = ReadinessReport(Readiness.NOT_READY, {"start": "the first check has not ended yet"})


def readiness(check: Callable[[], ReadinessReport]) -> Blueprint:
    """Build the endpoint; 503 where the backend is not ready, 200 where it is, or is only degraded."""
    blueprint = Blueprint("readiness", __name__)
    latest = _Latest(check)

    @blueprint.get("/ready")
    def ready() -> tuple[dict[str, Any], int]:
        report = latest.report()
        status = 503 if report.readiness is Readiness.NOT_READY else 200
        return {"status": report.readiness.value, "problems": report.problems}, status

    return blueprint


class _Latest:
    """The latest report, made anew when it is old.

    One thread makes it. Others have the old one meanwhile: a database that answers late must not hold the
    threads that events need.
    """

    def __init__(self, check: Callable[[], ReadinessReport]) -> None:
        self._check = check
        self._lock = threading.Lock()
        self._report = _STARTING
        self._made = float("-inf")

    def report(self) -> ReadinessReport:
        if self._is_fresh() or self._lock.locked():
            return self._report
        with self._lock:
            if not self._is_fresh():
                self._report = self._check()
                self._made = time.monotonic()
            return self._report

    def _is_fresh(self) -> bool:
        return time.monotonic() - self._made <= FRESH_SECONDS
