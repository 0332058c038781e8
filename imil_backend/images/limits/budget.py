"""The memory that all decoders of a process may take together.

What an image needs is estimated by its header, which has been checked against the limits; a decoder begins
when that much is free. An image that needs more than there is at all is refused.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from imil_backend.errors import ImageTooLargeError

DEFAULT_BYTES = 2 * 2**30


class MemoryBudget:
    """So many bytes, for whoever reserves them.

    Args:
        total: bytes.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._used = 0
        self._freed = threading.Condition()

    @contextmanager
    def reserved(self, count: int, name: str) -> Iterator[None]:
        """Wait until so many bytes are free, and hold them. Never within another reservation of a thread.

        Args:
            count: bytes.
            name: what messages call the image.

        Raises:
            ImageTooLargeError: there are never so many.
        """
        if count > self.total:
            raise ImageTooLargeError(
                f"{name} takes about {count // 2**20:,} MiB of memory to decode; the limit is "
                f"{self.total // 2**20:,} (IMIL_MAX_IMAGE_MEMORY)."
            )
        with self._freed:
            self._freed.wait_for(lambda: self._used + count <= self.total)
            self._used += count
        try:
            yield
        finally:
            with self._freed:
                self._used -= count
                self._freed.notify_all()


DECODERS = MemoryBudget(DEFAULT_BYTES)  # of this process
