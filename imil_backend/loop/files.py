"""Files: written so that a crash leaves the old one or the new one, and locks."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imil_backend.errors import StoreError
from imil_backend.learning.files import replacing


def write_atomically(path: Path, data: bytes) -> None:
    """Write whole or not at all, flushed to the disk.

    Raises:
        StoreError: the disk is full or cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock of a file; waits for whoever holds it. It goes with the process that holds it.

    Raises:
        StoreError: the file cannot be made.
    """
    try:
        file = path.open("w", encoding="ascii")
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}.") from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
