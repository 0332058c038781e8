"""Files that are replaced whole: after a crash there is the old one or the new one, never a part."""

from __future__ import annotations

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
