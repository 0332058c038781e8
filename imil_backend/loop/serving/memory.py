"""Memory that predictions no longer need, given back to the system.

malloc keeps what was freed for what comes next, in each thread's own heap: after some large images that is a
gigabyte, which a training beside would like to have.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable

REST_SECONDS = 1.0


def _trim_function() -> Callable[[int], int] | None:
    """glibc's malloc_trim; other C libraries have none."""
    trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim


class Surplus:
    """Gives back what malloc keeps, in the background, a moment after it was asked to: once for many.

    Args:
        trim: does it, given the bytes to keep; None where nothing can.
    """

    def __init__(self, trim: Callable[[int], int] | None = None) -> None:
        self._trim = trim or _trim_function()
        self._lock = threading.Lock()
        self._pending = False

    def give_back(self) -> None:
        """Give it back soon; returns at once."""
        with self._lock:
            if self._pending or self._trim is None:
                return
            self._pending = True
        timer = threading.Timer(REST_SECONDS, self._give_back_now)
        timer.daemon = True
        timer.name = "give-back"
        timer.start()

    def _give_back_now(self) -> None:
        with self._lock:
            self._pending = False
        if self._trim is not None:
            self._trim(0)
