"""The folder in which the web processes keep their counts, so that each can show those of all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # of prometheus-client, which reads it when imported
_IN_MEMORY = Path("/dev/shm")  # noqa: S108


@contextmanager
def multiprocess_folder() -> Iterator[None]:
    """Have this process and those that it forks keep their counts in a folder, which goes at the end.

    The counts of a process that has ended stay: they are of the server. To be called before
    prometheus-client is imported.
    """
    folder = mkdtemp(prefix="imil-metrics-", dir=_IN_MEMORY if _IN_MEMORY.is_dir() else None)
    os.environ[MULTIPROCESS_VARIABLE] = folder
    parent = os.getpid()
    try:
        yield
    finally:
        if os.getpid() == parent:
            shutil.rmtree(folder, ignore_errors=True)
