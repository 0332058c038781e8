"""What a job's end has computed, kept until its result is written: an interrupted end goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from imil_backend.files import replacing
from imil_backend.learning.child.context import Context

Number = TypeVar("Number", bound=np.generic)


def kept_array(context: Context, name: str, compute: Callable[[], NDArray[Number]]) -> NDArray[Number]:
    """An array that is kept under this name, or computed now; in every process.

    Raises:
        StoreError: they cannot be written.
    """
    path = context.directory / f"kept-{name}.npy"
    kept = context.runtime.broadcast(_read(path) if context.runtime.is_rank_zero else None)
    if kept is None:
        kept = compute()
        if context.runtime.is_rank_zero:
            with replacing(path) as temporary, temporary.open("wb") as file:
                np.save(file, kept, allow_pickle=False)
    return kept


def forget_kept(directory: Path) -> None:
    """Remove what is kept: the result has it, or a training that starts over makes it wrong."""
    for path in directory.glob("kept-*.npy"):
        path.unlink()


def _read(path: Path) -> Any:
    return np.load(path, allow_pickle=False) if path.exists() else None
