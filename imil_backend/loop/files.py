"""Files: written so that a crash leaves the old one or the new one, and told by their content."""

from __future__ import annotations

import hashlib
from pathlib import Path

from imil_backend.learning.files import replacing


def write_atomically(path: Path, data: bytes) -> None:
    """Write whole or not at all, flushed to the disk.

    Raises:
        StoreError: the disk is full or cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()  # hashlib.file_digest is there from Python 3.11 on
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()
