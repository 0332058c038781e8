"""Blackout: what a clinician called irrelevant no longer reaches training.

The masked pixels are set to black, as in Rao et al., "IMIL: Interactive Medical Image Learning Framework"
(CVPR 2024 workshops). The other fills are there to be compared with it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from imil_backend.errors import MaskError, SettingsError

_BLUR_SHARE = 0.05  # of the longer side: coarse enough that no letter or tube can be told

Image8 = NDArray[np.uint8]  # (height, width) or (height, width, 3)
Mask = NDArray[np.bool_]  # (height, width), True = irrelevant
# What the masked pixels become, (pixels,) or (pixels, 3) in 0..255, of an image of which something is kept.
Fill = Callable[[Image8, Mask], NDArray[Any]]


def black_out(image: NDArray[np.uint8], mask: NDArray[np.bool_], fill: str = "black") -> NDArray[np.uint8]:
    """A copy of an image without what its mask covers; the image itself is not changed.

    Args:
        image: uint8, (height, width) or (height, width, 3), at the natural size.
        mask: bool, (height, width), True = irrelevant.
        fill: a name in FILLS.

    Raises:
        MaskError: the mask has another size than the image.
        SettingsError: there is no such fill.
    """
    if mask.shape != image.shape[:2]:
        raise MaskError(f"The mask is {_size(mask)} pixels and the image {_size(image)}.")
    if fill not in FILLS:
        raise SettingsError(f"There is no fill {fill!r}; choose one of {', '.join(FILLS)}.")
    result = image.copy()
    # With nothing kept, nothing is left to take a colour from.
    result[mask] = 0 if mask.all() else np.rint(FILLS[fill](image, mask))
    return result


def _black(image: Image8, mask: Mask) -> NDArray[Any]:
    return np.zeros_like(image[mask])


def _mean(image: Image8, mask: Mask) -> NDArray[Any]:
    """The mean of the pixels that are kept."""
    return np.broadcast_to(image[~mask].mean(axis=0), image[mask].shape)


def _noise(image: Image8, mask: Mask) -> NDArray[Any]:
    """Noise with mean and spread of the pixels that are kept, the same each time for the same mask."""
    random = np.random.default_rng(zlib.crc32(np.packbits(mask).tobytes()))
    kept = image[~mask]
    return np.floor(np.clip(random.normal(kept.mean(axis=0), kept.std(axis=0), image[mask].shape), 0, 255))


def _blur(image: Image8, mask: Mask) -> NDArray[Any]:
    radius = _BLUR_SHARE * max(mask.shape)
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))[mask]


FILLS: dict[str, Fill] = {"black": _black, "mean": _mean, "noise": _noise, "blur": _blur}


def _size(array: NDArray[np.generic]) -> str:
    return f"{array.shape[1]} x {array.shape[0]}"
