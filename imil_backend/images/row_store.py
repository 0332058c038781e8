"""Arrays of one shape, kept as rows of a memory-mapped file under keys, and found again.

Two files that only ever grow: one holds the rows and is mapped, `index.bin` says for each row what it was
made from, with two checksums. A row counts once its entry is whole, so a process killed at any moment leaves
whole rows only; a row or entry that was damaged later fails its checksum and is made again at the end. The
directory may be deleted at any time.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import struct
import zlib
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from imil_backend.errors import CacheError

_ENTRY = struct.Struct("<32sQII")  # key, row, CRC-32 of the row's bytes, CRC-32 of the entry before this
_REMOVED = ".removed"  # the end of a directory's name while it is being removed

logger = logging.getLogger(__name__)


class RowStore:
    """Rows of one type and shape. One process writes at a time; what was mapped stays valid."""

    def __init__(self, directory: Path, file_name: str, dtype: DTypeLike, shape: tuple[int, ...]) -> None:
        self.rows_file = directory / file_name
        self.index_file = directory / "index.bin"
        self.directory = directory
        self._dtype = np.dtype(dtype)
        self._shape = shape
        self._row_bytes = int(np.prod(shape)) * self._dtype.itemsize

    @property
    def rows(self) -> NDArray[Any]:
        """All rows as of now, read-only: (rows, *shape). Map once, after writing."""
        rows = self.rows_file.stat().st_size // self._row_bytes if self.rows_file.exists() else 0
        if rows == 0:  # an empty file cannot be mapped
            return np.empty((0, *self._shape), self._dtype)
        return np.memmap(self.rows_file, self._dtype, "r", shape=(rows, *self._shape))

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock, waiting for another process that does; the system releases it when one dies.

        Raises:
            CacheError: the directory cannot be written.
        """
        try:
            lock = self._take_lock()
        except OSError as error:
            raise self._cannot_write(error) from error
        with lock:
            yield

    def _take_lock(self) -> IO[str]:
        """The lock, held, of the directory that is there: another one may be removed while one waits."""
        while True:
            self.directory.mkdir(parents=True, exist_ok=True)
            with ExitStack() as opened, suppress(FileNotFoundError):
                lock = opened.enter_context((self.directory / "lock").open("w"))
                fcntl.flock(lock, fcntl.LOCK_EX)
                if os.path.samestat(os.fstat(lock.fileno()), (self.directory / "lock").stat()):
                    opened.pop_all()
                    return lock

    def sound_rows(self, wanted: Collection[bytes]) -> dict[bytes, int]:
        """Rows of wanted keys whose checksums hold; a later entry of the same key wins. While writing."""
        rows = self.rows
        found: dict[bytes, tuple[int, int]] = {}
        damaged = 0
        for key, row, row_crc, entry_crc in _ENTRY.iter_unpack(self._whole_entries()):
            if entry_crc != _entry_crc(key, row, row_crc):
                damaged += 1
            elif key in wanted:
                found[key] = (row, row_crc)
        sound = {
            key: row
            for key, (row, crc) in found.items()
            if row < len(rows) and zlib.crc32(rows[row].data) == crc
        }
        damaged += len(found) - len(sound)
        if damaged:
            logger.warning("%d damaged rows or entries in %s; made again if needed", damaged, self.directory)
        return sound

    def append(self, key: bytes, row: NDArray[Any]) -> int:
        """Write a row, and only then the entry that makes it count; its number. While writing.

        Nothing is ever overwritten.

        Args:
            key: 32 bytes that stand for everything the row depends on.
            row: contiguous, of the store's type and shape.

        Raises:
            CacheError: it cannot be written.
        """
        crc = zlib.crc32(row.data)
        try:
            with self.rows_file.open("ab") as file:
                number = -(-file.tell() // self._row_bytes)  # past what a killed process left of a row
                file.truncate(number * self._row_bytes)
                file.write(row.data)
            with self.index_file.open("ab") as index:
                index.write(_ENTRY.pack(key, number, crc, _entry_crc(key, number, crc)))
        except OSError as error:
            raise self._cannot_write(error) from error
        return number

    def _whole_entries(self) -> bytes:
        """The index, without what a killed process left of its last entry."""
        index = self.index_file.read_bytes() if self.index_file.exists() else b""
        whole = len(index) - len(index) % _ENTRY.size
        if whole < len(index):
            os.truncate(self.index_file, whole)
        return index[:whole]

    def _cannot_write(self, error: OSError) -> CacheError:
        return CacheError(
            f"The cache in {self.directory} cannot be written: {error.strerror}. "
            "Free space (the cache itself may be deleted) or set another data directory."
        )


def remove_rows(directory: Path, keys: Collection[bytes]) -> bool:
    """Remove a store's directory if it has a row of one of these keys and no process is writing to it.

    Whoever has mapped its rows keeps them.

    Returns:
        Whether it was removed.

    Raises:
        CacheError: it cannot be read or removed.
    """
    try:
        with (directory / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            index = (directory / "index.bin").read_bytes()
            entries = _ENTRY.iter_unpack(index[: len(index) - len(index) % _ENTRY.size])
            if not any(key in keys for key, *_ in entries):
                return False
            _remove(directory)
            return True
    except (BlockingIOError, FileNotFoundError):  # being written; no store, or gone
        return False
    except OSError as error:
        raise _cannot_remove(directory, error) from error


def remove_store(directory: Path) -> bool:
    """Remove a store's directory if no process is writing to it. Whoever has mapped its rows keeps them.

    Returns:
        Whether it was removed.

    Raises:
        CacheError: it cannot be removed.
    """
    try:
        with (directory / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(directory)
            return True
    except (BlockingIOError, FileNotFoundError):
        return False
    except OSError as error:
        raise _cannot_remove(directory, error) from error


def removed_stores(directory: Path) -> list[Path]:
    """What is left, in the directory of the stores, of those whose removal was interrupted."""
    return sorted(directory.glob(f".*{_REMOVED}"))


def _remove(directory: Path) -> None:
    """Out of the way at once, so that whoever wants to write begins a new one; then file by file."""
    aside = directory.with_name(f".{directory.name}.{os.getpid()}{_REMOVED}")
    directory.rename(aside)
    shutil.rmtree(aside)


def _cannot_remove(directory: Path, error: OSError) -> CacheError:
    return CacheError(f"{directory} is not needed any more and cannot be removed: {error}.")


def _entry_crc(key: bytes, row: int, row_crc: int) -> int:
    return zlib.crc32(struct.pack("<32sQI", key, row, row_crc))
