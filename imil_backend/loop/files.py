"""Files: written so that a crash leaves the old one or the new one, and locks."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imil_backend.errors import StoreError


def write_atomically(path: Path, data: bytes) -> None:
    """Write by temporary file and rename, flushed to the disk.

    Raises:
        StoreError: the disk is full or cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StoreError(f"{path} cannot be written: {error.strerror}. Is the disk full?") from error


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
