"""Proposed masks: what a mask network takes for irrelevant in images that nobody has painted.

They are kept with a version, in one file, and are no answers: whoever shows them calls them proposed. Read
and written without torch.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from imil_backend.errors import LearningError
from imil_backend.files import replacing
from imil_backend.images.masks.masks import soft_edged
from imil_backend.images.masks.region_types import painted

PROPOSED_FILE = "proposed.npz"
LEAST_CONFIDENCE = 0.5  # of a proposed mask: the Dice coefficient that the network expects of it
_ROUNDING = 0.6  # pixels of a mask network: takes the steps from an outline, and leaves a line of one pixel
FEWEST_GROUPS = 6  # painted; of fewer a mask network's quality is a guess


@dataclass(frozen=True)
class Quality:
    """How well a mask network finds what was painted, in images that it was not trained on."""

    # Dice coefficient of each painted mask with the one proposed by a network that has seen no image of its
    # group; None: the mask was set aside
    dice: tuple[float | None, ...]
    mean: float | None  # of these; None where nothing was measured
    lower: float | None  # the mean is between these with 95 % confidence, groups drawn with replacement
    upper: float | None
    groups: int
    folds: int


@dataclass(frozen=True)
class Proposed:
    """A proposed mask for each sample, or the reason why there are none."""

    usable: bool
    # sentences: what the quality is, why nothing is proposed, what was set aside
    reason: str
    quality: Quality
    size: int  # pixels a side that the network works at
    packed: NDArray[np.uint8]  # (samples or 0, size * size / 8): a bit for each pixel, 1 = irrelevant
    # (samples or 0,) 0..1: the Dice coefficient that the network expects of its own proposal
    confidence: NDArray[np.float32]

    def masks(self, indices: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(n, size, size), True = irrelevant, of some of the samples."""
        bits = np.unpackbits(self.packed[indices], axis=1)
        return bits.reshape(-1, self.size, self.size).astype(bool)

    def mask(self, index: int, width: int, height: int) -> NDArray[np.bool_]:
        """(height, width), True = irrelevant, of one sample at its natural size, with smooth outlines."""
        image = Image.fromarray(self.masks(np.array([index]))[0].astype(np.uint8) * 255)
        rounded = image.filter(ImageFilter.GaussianBlur(_ROUNDING))
        return painted(rounded.resize((width, height), Image.Resampling.BICUBIC))

    def coverage(self, indices: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
        """(n, size, size) of some of the samples at the size that is trained on, with a soft edge.

        As `soften` makes it of painted masks, but no wider: the network has learned from what that made.
        """
        softened = np.empty((len(indices), size, size), np.uint8)
        for place, mask in enumerate(self.masks(indices)):
            image = Image.fromarray(mask.astype(np.uint8) * 255)
            if size != self.size:
                smaller = size < self.size
                filter_ = Image.Resampling.BOX if smaller else Image.Resampling.BICUBIC
                image = image.resize((size, size), filter_)
            softened[place] = soft_edged(image)
        return softened


def write_proposed(path: Path, keys: Sequence[str], proposed: Proposed) -> None:
    """Write atomically.

    Args:
        path: of the file, PROPOSED_FILE in a version's directory.
        keys: of the samples, in their order.
        proposed: for these.
    """
    told = {
        "usable": proposed.usable,
        "reason": proposed.reason,
        "quality": asdict(proposed.quality),
        "size": proposed.size,
    }
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            keys=np.array(keys, np.str_),
            masks=proposed.packed,
            confidence=proposed.confidence,
            told=np.frombuffer(json.dumps(told, ensure_ascii=False).encode(), np.uint8),
        )


def read_proposed(path: Path) -> tuple[tuple[str, ...], Proposed]:
    """Keys of the samples, and what is proposed for them.

    Raises:
        LearningError: the file is missing or damaged.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            told = json.loads(file["told"].tobytes())
            quality = Quality(**{**told["quality"], "dice": tuple(told["quality"]["dice"])})
            proposed = Proposed(
                told["usable"], told["reason"], quality, told["size"], file["masks"], file["confidence"]
            )
            return tuple(file["keys"].tolist()), proposed
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise LearningError(
            f"The proposed masks in {path} cannot be read ({error}): train the version again, or "
            "restore the file from a backup."
        ) from error


def holds_masks(path: Path) -> bool:
    """Whether there is a file that holds masks, as far as can be read."""
    try:
        return len(read_proposed(path)[0]) > 0
    except LearningError:
        return False


def drop_masks(path: Path) -> None:
    """Write the file again without its masks; their quality, and what was said of them, stay.

    Raises:
        LearningError: it is damaged.
        StoreError: it cannot be written.
    """
    _, proposed = read_proposed(path)
    nothing = replace(proposed, packed=proposed.packed[:0], confidence=proposed.confidence[:0])
    write_proposed(path, (), nothing)
