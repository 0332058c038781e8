"""How much the folders of the data directory hold."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from sqlalchemy import func, select

from imil_backend.loop.base.backend import Backend
from imil_backend.store.tables import Version

# A data directory has a file for each image and mask: a walk takes seconds, and no scrape waits for it.
SECONDS_BETWEEN_WALKS = 900.0
KINDS = ("cache", "images", "masks", "versions", "weights")


class DiskUsage:
    """The sizes of the last walk through a data directory. Asking begins the next walk when it is time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._began = float("-inf")
        self._sizes: Mapping[str, int] = {}

    def by_kind(self, *, wait: bool = False) -> Mapping[str, int]:
        """Bytes by the name of the folder; `other` is all else.

        Empty until the first walk has ended, which one may wait for.
        """
        with self._lock:
            if time.monotonic() - self._began > SECONDS_BETWEEN_WALKS:
                self._began = time.monotonic()
                thread = threading.Thread(target=self._walk, name="disk usage", daemon=True)
                thread.start()
                if wait:
                    thread.join()
        return self._sizes

    def _walk(self) -> None:
        total = size_of(self._directory)
        sizes = {kind: size_of(self._directory / kind) for kind in KINDS}
        self._sizes = {**sizes, "other": max(0, total - sum(sizes.values()))}


@cache
def disk_usage_of(directory: Path) -> DiskUsage:
    """The sizes of this data directory, walked through by one thread however many ask."""
    return DiskUsage(directory)


def size_of(directory: Path) -> int:
    """Bytes of all files under a directory; what vanishes meanwhile is not counted."""
    size = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                size += os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118 - a million of them
            except FileNotFoundError:
                continue
    return size


def version_bytes(backend: Backend) -> int | None:
    """Bytes of the latest version or the latest baseline, the larger of both; None without one."""
    newest = select(func.max(Version.id))
    latest = (newest.scalar_subquery(), newest.where(Version.baseline_id.is_(None)).scalar_subquery())
    with backend.store.begin() as session:
        found = session.scalars(select(Version.directory).where(Version.id.in_(latest))).all()
    return max((size_of(Path(directory)) for directory in found), default=None)
