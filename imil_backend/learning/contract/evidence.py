"""Class evidence of a version: where in each image it saw what spoke for a class. One file, without torch.

Grad-CAM (Selvaraju et al. 2017) of the last stage. Behind that stage these networks take the mean over the
image and apply a linear classifier, so Grad-CAM is a closed form, the class activation map (Zhou et al.
2016): sum over channels of weight times activation, divided by the number of cells. The cells of a map sum
up to the class's logit less its bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from imil_backend.errors import LearningError
from imil_backend.files import replacing

EVIDENCE_FILE = "evidence.safetensors"
Place = tuple[str, int]  # split and row in a file


@dataclass(frozen=True)
class Evidence:
    """Of some samples, in one order."""

    keys: tuple[str, ...]
    labels: NDArray[np.int64]  # (n,) class indices
    probabilities: NDArray[np.float32]  # (n, classes) of the image as it is, nothing blacked out
    label: NDArray[np.float16]  # (n, height, width) for the class of the label
    predicted: NDArray[np.float16]  # (n, height, width) for the class that was predicted


@dataclass(frozen=True)
class SampleEvidence:
    """Of one sample."""

    probabilities: NDArray[np.float32]  # (classes,)
    label: NDArray[np.float16]  # (height, width)
    predicted: NDArray[np.float16]  # (height, width)


def write_evidence(path: Path, splits: Mapping[str, Evidence]) -> None:
    """Write atomically: for two classes and maps of 7 x 7 cells 244 bytes a sample.

    Args:
        path: of the file, EVIDENCE_FILE in a version's directory.
        splits: by name.
    """
    tensors: dict[str, NDArray[np.generic]] = {}
    for name, evidence in splits.items():
        tensors[f"{name}.keys"] = _as_bytes(evidence.keys)
        tensors[f"{name}.labels"] = evidence.labels.astype(np.int64)
        for field in ("probabilities", "label", "predicted"):
            tensors[f"{name}.{field}"] = np.ascontiguousarray(getattr(evidence, field))
    with replacing(path) as temporary:
        save_file(tensors, temporary)


class EvidenceFile:
    """A file of class evidence; it is mapped, and of a sample nothing is read but its own."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            LearningError: it is damaged.
        """
        try:
            opened: Any = safe_open(path, "np")
            self._file = opened
            self.splits = sorted({name.partition(".")[0] for name in opened.keys()})  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise LearningError(
                f"The class evidence in {path} cannot be read ({error}): train the version again, or "
                "restore the file from a backup."
            ) from error

    def split(self, name: str) -> Evidence:
        """All of a split, in memory."""
        keys = self._file.get_tensor(f"{name}.keys")
        fields = ("labels", "probabilities", "label", "predicted")
        return Evidence(_names(keys), *(self._file.get_tensor(f"{name}.{field}") for field in fields))

    def sample(self, key: str) -> SampleEvidence | None:
        """That of one sample, or None if the version was not asked about it."""
        wanted = key.encode()
        for split in self.splits:
            keys = self._file.get_tensor(f"{split}.keys")
            whole = keys.view(f"S{keys.shape[1]}").ravel()  # much quicker to compare than byte by byte
            for row in np.flatnonzero(whole == wanted):
                return self.at((split, int(row)))
        return None

    def places(self) -> dict[str, Place]:
        """Where each sample's is, by its key; for whoever asks for many."""
        return {
            key: (split, row)
            for split in self.splits
            for row, key in enumerate(_names(self._file.get_tensor(f"{split}.keys")))
        }

    def at(self, place: Place) -> SampleEvidence:
        """That of the sample at a place."""
        split, row = place
        fields = ("probabilities", "label", "predicted")
        return SampleEvidence(*(self._file.get_slice(f"{split}.{field}")[row] for field in fields))


def read_evidence(directory: Path) -> EvidenceFile | None:
    """The class evidence in a version's directory; None of a version that was trained before it was kept.

    Raises:
        LearningError: the file is damaged.
    """
    path = directory / EVIDENCE_FILE
    return _opened(path, path.stat().st_mtime_ns) if path.exists() else None


@lru_cache(maxsize=64)  # versions never change, and what is kept here is a map
def _opened(path: Path, _written: int) -> EvidenceFile:
    return EvidenceFile(path)


def _as_bytes(keys: tuple[str, ...]) -> NDArray[np.uint8]:
    """(n, bytes of the longest one): safetensors holds no text."""
    encoded = np.array([key.encode() for key in keys] or [b"x"], np.bytes_)
    return encoded.view(np.uint8).reshape(len(encoded), -1)[: len(keys)]


def _names(keys: NDArray[np.uint8]) -> tuple[str, ...]:
    return tuple(row.tobytes().rstrip(b"\0").decode() for row in keys)
