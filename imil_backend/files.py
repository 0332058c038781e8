"""Files: their owner's alone; replaced whole, so that a crash leaves one of both; known by their content."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from imil_backend.errors import StoreError

PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700
UNFINISHED = ".*.[0-9]*-[0-9]*"  # matches what `replacing` writes to, if it is killed
OTHERS = 0o077  # all that others could be allowed; as a umask, what nobody gets

_TORCH_ARCHIVE = "inline_container.cc"  # the source of torch's archive writer, which its errors name
_SAFETENSORS_IO = re.compile(r"I/O error|IoError")  # IoError: until safetensors 0.5


def regular_size(path: Path) -> int:
    """The size in bytes of a file that ends: reading a pipe or a device may take for ever.

    Raises:
        OSError: it is not a regular file, or cannot be looked at.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file")
    return status.st_size


def unfinished(path: Path) -> Path:
    """Where `replacing` lets this thread write what is to take the place of a file."""
    return path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")


_MAKING = threading.Lock()


def make_private(path: Path) -> None:
    """Make an empty file that its owner alone can read, whatever the umask; one that is there stays as it is.

    One that is there is not opened: to close it again would end the locks that this process has on it, and
    an SQLite database that is in use would be damaged (sqlite.org/howtocorrupt.html, section 2.2).

    Raises:
        OSError: it cannot be made.
    """
    with _MAKING, suppress(FileExistsError):  # others in this process wait until the new file is closed
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` when the block ends, flushed to the disk.

    Its owner alone can read it.

    If the block fails, what it wrote goes: on a full disk it would keep the room that others need.

    Raises:
        StoreError: the file cannot be written. What else the block raises passes as it is.
    """
    temporary = unfinished(path)
    try:
        temporary.unlink(missing_ok=True)
        make_private(temporary)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = _write_error(error)
        if reason is None:
            raise
        free = shutil.disk_usage(path.parent).free // 2**20
        raise StoreError(f"{path} cannot be written, with {free} MiB free on its disk: {reason}.") from error
    finally:
        temporary.unlink(missing_ok=True)


def _write_error(error: Exception) -> Exception | None:
    """The write error that an error is or hides, or None for an error of any other kind.

    safetensors has one class for all its errors. torch.save closes its archive after the file refused a
    write, and that fails with a RuntimeError over the OSError.
    """
    if isinstance(error, SafetensorError):
        return error if _SAFETENSORS_IO.search(str(error)) else None
    if isinstance(error, OSError):
        return error
    hidden = error.__context__
    return hidden if isinstance(hidden, OSError) and _TORCH_ARCHIVE in str(error) else None


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
