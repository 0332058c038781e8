"""Files: replaced whole, so that a crash leaves the old one or the new one, and told by their content."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from imil_backend.errors import StoreError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` when the block ends, flushed to the disk.

    If the block fails, what it wrote goes: on a full disk it would keep the room that others need.

    Raises:
        StoreError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError, SafetensorError) as error:  # what torch and safetensors call a full disk
        free = shutil.disk_usage(path.parent).free // 2**20
        raise StoreError(f"{path} cannot be written, with {free} MiB free on its disk: {error}.") from error
    finally:
        temporary.unlink(missing_ok=True)


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
