"""What makes an answer late, counted: a clock would measure what else the machine does."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Audit events of CPython; a module that is loaded already raises none when it is imported again.
WAITS = {"import", "os.fork", "socket.connect", "socket.getaddrinfo", "subprocess.Popen", "time.sleep"}
_open: dict[int, list[str]] = {}  # by thread


@contextmanager
def waits() -> Iterator[list[str]]:
    """Every module loaded, process started, address connected to and sleep (Python 3.11) of this thread.

    Yields:
        The audit events with their first arguments, filled as they come.
    """
    thread = threading.get_ident()
    found = _open[thread] = []
    try:
        yield found
    finally:
        del _open[thread]


def _note(name: str, arguments: tuple[Any, ...]) -> None:
    if name in WAITS and (found := _open.get(threading.get_ident())) is not None:
        found.append(f"{name} {arguments[:1]}")


sys.addaudithook(_note)  # for good: a hook cannot be taken off again
