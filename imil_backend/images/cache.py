"""Decoded pixels, kept: a sample is decoded, blacked out and resized once, however often it is trained on.

Kept as rows of size x size x channels bytes (`row_store.py`), keyed by the contents of image and mask. The
directory may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imil_backend.errors import ImageError, ImilError, MaskError
from imil_backend.images.masks.blackout import black_out
from imil_backend.images.masks.masks import mask_from_png, mask_of_own_size
from imil_backend.images.reading import load_bytes, read_sample
from imil_backend.images.resizing import network_input
from imil_backend.images.row_store import RowStore

_MASK_BYTES = 100 * 2**20  # of a 1-bit PNG: more than any that this backend writes
CODE_VERSION = 3  # raise it when reading, blackout or resizing give other pixels than before
_WORKERS = min(4, os.cpu_count() or 1)  # Pillow decodes and resizes without holding the interpreter's lock


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
        """`directory` may be shared with caches of other sizes; the limits are those of `read_sample`."""
        self.size = size
        self.channels = channels
        self.failures: list[tuple[int, str]] = []  # of the latest fill: index of the item, and the reason
        self._max_bytes = max_bytes
        self._max_pixels = max_pixels
        folder, shape = directory / f"{size}px_{channels}ch", (size, size, channels)
        self._store = RowStore(folder, "pixels.u8", np.uint8, shape)

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """All rows as of now, read-only: uint8 (rows, size, size, channels). Map once, after filling."""
        return self._store.rows

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
        with self._store.writing():
            rows = self._store.sound_rows(wanted)
            missing = {key: item for key, item in wanted.items() if key not in rows}
            for done, (key, outcome) in enumerate(self._make_all(missing, workers), start=1):
                if isinstance(outcome, ImilError):
                    reasons[key] = str(outcome)
                else:
                    rows[key] = self._store.append(key, outcome)
                if progress:
                    progress(done, len(missing))
        self.failures = [(index, reasons[key]) for index, key in enumerate(keys) if key in reasons]
        return np.array([rows.get(key, -1) for key in keys], np.int64)

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
        """Decode, black out at the natural size, then resize: uint8 (size, size, channels)."""
        data = _load(item.image, item.sha256, self._max_bytes)
        # A reduced scale is much faster, but a mask meets the image at the natural size only.
        draft_size = None if item.mask else 2 * self.size
        pixels = read_sample(
            data,
            max_bytes=self._max_bytes,
            max_pixels=self._max_pixels,
            name=item.image.name,
            draft_size=draft_size,
        )
        if item.mask:
            height, width = pixels.shape[:2]
            mask = mask_from_png(_load(item.mask, item.mask_sha256, self._max_bytes), width, height)
            pixels = black_out(pixels, mask, item.fill)
        return network_input(pixels, self.size, self.channels)


def read_mask(path: Path, sha256: str | None) -> NDArray[np.bool_]:
    """The mask in a file, (height, width), True = irrelevant.

    Raises:
        ImageError: it cannot be read, or its content has changed.
        MaskError: it is no mask.
    """
    return mask_of_own_size(_load(path, sha256, _MASK_BYTES))


def _load(path: Path, sha256: str | None, max_bytes: int) -> bytes:
    """The bytes of a file that must still be the one that it is known by."""
    data = load_bytes(path, max_bytes)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ImageError(f"{path.name} is not the file that was imported: its content has changed.")
    return data


def _key(item: CachedItem) -> bytes:
    """32 bytes that stand for everything the pixels depend on, but for the cache's own size and channels."""
    mask = f"{item.mask_sha256} {item.fill}" if item.mask else ""
    return hashlib.sha256(f"{CODE_VERSION} {item.sha256} {mask}".encode()).digest()
