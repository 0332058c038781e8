"""Decoded pixels, kept: a sample is decoded, blacked out and resized once, however often it is trained on.

Two files that only ever grow. `pixels.u8` holds rows of size x size x channels bytes and is memory-mapped.
`index.bin` says for each row what it was made from, with two checksums. A row counts once its entry is
whole, so a process killed at any moment leaves whole rows only; a row or entry that was damaged later fails
its checksum and is made again at the end. The directory may be deleted at any time.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imil_backend.errors import CacheError, ImageError, ImilError, MaskError
from imil_backend.images.blackout import black_out
from imil_backend.images.masks import mask_from_png
from imil_backend.images.reading import load_bytes, read_image

CODE_VERSION = 1  # raise it when reading, blackout or resizing give other pixels than before
_ENTRY = struct.Struct("<32sQII")  # key, row, CRC-32 of the row's pixels, CRC-32 of the entry before this
_WORKERS = min(4, os.cpu_count() or 1)  # Pillow decodes and resizes without holding the interpreter's lock

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CachedItem:
    """One image as training sees it: an original and, where it is blacked out, its mask."""

    image: Path
    sha256: str  # of the image file's bytes
    mask: Path | None = None  # 1-bit PNG at the natural size, white = irrelevant
    mask_sha256: str | None = None  # of the mask file's bytes
    fill: str = "black"


class PixelCache:
    """The cache of one size and number of channels.

    One process fills it at a time, others wait for it or read; what was mapped stays valid.
    """

    def __init__(self, directory: Path, size: int, channels: int, *, max_bytes: int, max_pixels: int) -> None:
        """`directory` may be shared with caches of other sizes; the limits are those of `read_image`."""
        self.size = size
        self.channels = channels
        self.failures: list[tuple[int, str]] = []  # of the latest fill: index of the item, and the reason
        self._max_bytes = max_bytes
        self._max_pixels = max_pixels
        self._shape = (size, size, channels)
        self._row_bytes = size * size * channels
        self._directory = directory / f"{size}px_{channels}ch"
        self._pixels_file = self._directory / "pixels.u8"
        self._index_file = self._directory / "index.bin"

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """All rows as of now, read-only: uint8 (rows, size, size, channels). Map once, after filling."""
        rows = self._pixels_file.stat().st_size // self._row_bytes if self._pixels_file.exists() else 0
        if rows == 0:  # an empty file cannot be mapped
            return np.empty((0, *self._shape), np.uint8)
        return np.memmap(self._pixels_file, np.uint8, "r", shape=(rows, *self._shape))

    def fill(
        self,
        items: Sequence[CachedItem],
        progress: Callable[[int, int], None] | None = None,
        workers: int = _WORKERS,
    ) -> NDArray[np.int64]:
        """Make whatever rows are missing or damaged; wait for another process that is filling.

        A bad image does not stop the others: it gets row -1, and `failures` says why. Only as many images
        as there are workers are held decoded.

        Args:
            items: What is needed, in any order; the same item twice is one row.
            progress: Called after each image with how many are done and how many had to be made.
            workers: Threads that decode.

        Returns:
            The row of each item in `pixels`, -1 where it failed.

        Raises:
            CacheError: the cache cannot be written.
        """
        keys = [_key(item) for item in items]
        wanted = dict(zip(keys, items, strict=True))
        reasons: dict[bytes, str] = {}
        with self._writing():
            rows = self._sound_rows(wanted)
            missing = {key: item for key, item in wanted.items() if key not in rows}
            for done, (key, outcome) in enumerate(self._make_all(missing, workers), start=1):
                if isinstance(outcome, ImilError):
                    reasons[key] = str(outcome)
                else:
                    rows[key] = self._append(key, outcome)
                if progress:
                    progress(done, len(missing))
        self.failures = [(index, reasons[key]) for index, key in enumerate(keys) if key in reasons]
        return np.array([rows.get(key, -1) for key in keys], np.int64)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the lock, which the system releases when a process dies."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            lock = (self._directory / "lock").open("w")
        except OSError as error:
            raise self._cannot_write(error) from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _sound_rows(self, wanted: Mapping[bytes, CachedItem]) -> dict[bytes, int]:
        """Rows of wanted items whose checksums hold; a later entry of the same key wins."""
        pixels = self.pixels
        found: dict[bytes, tuple[int, int]] = {}
        damaged = 0
        for key, row, row_crc, entry_crc in _ENTRY.iter_unpack(self._whole_entries()):
            if entry_crc != _entry_crc(key, row, row_crc):
                damaged += 1
            elif key in wanted:
                found[key] = (row, row_crc)
        rows = {
            key: row
            for key, (row, crc) in found.items()
            if row < len(pixels) and zlib.crc32(pixels[row].data) == crc
        }
        damaged += len(found) - len(rows)
        if damaged:
            logger.warning("%d damaged rows or entries in the pixel cache; made again if needed", damaged)
        return rows

    def _whole_entries(self) -> bytes:
        """The index, without what a killed process left of its last entry."""
        index = self._index_file.read_bytes() if self._index_file.exists() else b""
        whole = len(index) - len(index) % _ENTRY.size
        if whole < len(index):
            os.truncate(self._index_file, whole)
        return index[:whole]

    def _append(self, key: bytes, pixels: NDArray[np.uint8]) -> int:
        """Write a row, and only then the entry that makes it count. Nothing is ever overwritten."""
        crc = zlib.crc32(pixels.data)
        try:
            with self._pixels_file.open("ab") as file:
                row = -(-file.tell() // self._row_bytes)  # past what a killed process left of a row
                file.truncate(row * self._row_bytes)
                file.write(pixels.data)
            with self._index_file.open("ab") as index:
                index.write(_ENTRY.pack(key, row, crc, _entry_crc(key, row, crc)))
        except OSError as error:
            raise self._cannot_write(error) from error
        return row

    def _cannot_write(self, error: OSError) -> CacheError:
        return CacheError(
            f"The pixel cache in {self._directory} cannot be written: {error.strerror}. "
            "Free space (the cache itself may be deleted) or set another data directory."
        )

    def _make_all(
        self, items: Mapping[bytes, CachedItem], workers: int
    ) -> Iterator[tuple[bytes, NDArray[np.uint8] | ImilError]]:
        """Make items in several threads, in order, with a bounded number under way."""
        under_way: deque[tuple[bytes, Future[NDArray[np.uint8] | ImilError]]] = deque()
        with ThreadPoolExecutor(workers, "pixel-cache") as pool:
            for key, item in items.items():
                under_way.append((key, pool.submit(self._make_or_say_why, item)))
                if len(under_way) > 2 * workers:
                    first, future = under_way.popleft()
                    yield first, future.result()
            for last, future in under_way:
                yield last, future.result()

    def _make_or_say_why(self, item: CachedItem) -> NDArray[np.uint8] | ImilError:
        try:
            return self._make(item)
        except (ImageError, MaskError) as error:
            return error

    def _make(self, item: CachedItem) -> NDArray[np.uint8]:
        """Decode, black out at the natural size, then resize: uint8 (size, size, channels).

        Resized with Pillow's antialiased bilinear filter, without regard to the aspect ratio.
        """
        data = self._load(item.image, item.sha256)
        # A reduced scale is much faster, but a mask meets the image at the natural size only.
        draft_size = None if item.mask else 2 * self.size
        pixels = read_image(
            data,
            max_bytes=self._max_bytes,
            max_pixels=self._max_pixels,
            name=item.image.name,
            draft_size=draft_size,
        )
        if item.mask:
            height, width = pixels.shape[:2]
            mask = mask_from_png(self._load(item.mask, item.mask_sha256), width, height)
            pixels = black_out(pixels, mask, item.fill)
        image = Image.fromarray(pixels)
        if self.channels == 1 and pixels.ndim == 3:
            image = image.convert("L")
        resized = np.asarray(image.resize((self.size, self.size), Image.Resampling.BILINEAR))
        return np.ascontiguousarray(np.broadcast_to(np.atleast_3d(resized), self._shape))

    def _load(self, path: Path, sha256: str | None) -> bytes:
        """The bytes of a file that must still be the one that the row is kept under."""
        data = load_bytes(path, self._max_bytes)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ImageError(f"{path.name} is not the file that was imported: its content has changed.")
        return data


def _key(item: CachedItem) -> bytes:
    """32 bytes that stand for everything the pixels depend on, but for the cache's own size and channels."""
    mask = f"{item.mask_sha256} {item.fill}" if item.mask else ""
    return hashlib.sha256(f"{CODE_VERSION} {item.sha256} {mask}".encode()).digest()


def _entry_crc(key: bytes, row: int, row_crc: int) -> int:
    return zlib.crc32(struct.pack("<32sQI", key, row, row_crc))
