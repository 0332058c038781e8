"""Files, written so that a crash leaves the old one or the new one."""

from __future__ import annotations

from pathlib import Path

from imil_backend.learning.files import replacing


def write_atomically(path: Path, data: bytes) -> None:
    """Write whole or not at all, flushed to the disk.

    Raises:
        StoreError: the disk is full or cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(data)
