"""The state of a training in a file: written whole or not at all, and noticed when it is damaged."""

from __future__ import annotations

import pickle  # for its error only
import zipfile
from pathlib import Path
from typing import Any

import torch

from imil_backend.errors import WeightsError
from imil_backend.files import replacing

FORMAT = 1


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values, nested in dicts and lists, atomically and to the disk."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        torch.save({**state, "format": FORMAT}, file)


def load_state(path: Path) -> dict[str, Any]:
    """Read what `save_state` wrote, onto the CPU.

    torch.load does not look at the checksums that torch.save puts in (a zip archive's), so they are looked
    at here.

    Raises:
        WeightsError: the file is missing, damaged or of another format.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        state = torch.load(path, map_location="cpu", weights_only=True) if damaged is None else {}
    except (OSError, zipfile.BadZipFile, RuntimeError, EOFError) as error:
        raise WeightsError(f"{path} is not a complete training state: {error}") from error
    except pickle.UnpicklingError as error:  # torch's own message advises to load it unsafely
        raise WeightsError(
            f"{path} contains more than tensors and plain values, and is not loaded."
        ) from error
    if damaged is not None:
        raise WeightsError(f"{path} is damaged: the checksum of its part {damaged} is wrong.")
    if state.get("format") != FORMAT:
        raise WeightsError(f"{path} has format {state.get('format')}; this version reads format {FORMAT}.")
    return dict(state)


def random_state() -> dict[str, Any]:
    """torch's random number generators, of the CPU and of all GPUs."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}


def restore_random_state(state: dict[str, Any]) -> None:
    """Set the generators; those of GPUs only on a machine with as many."""
    torch.set_rng_state(state["cpu"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
