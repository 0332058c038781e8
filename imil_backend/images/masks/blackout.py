"""Blackout: what a clinician called irrelevant no longer reaches training.

The masked pixels are set to black, as in Rao et al., "IMIL: Interactive Medical Image Learning Framework"
(CVPR 2024 workshops). The other fills are there to be compared with it.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from imil_backend.errors import MaskError, SettingsError

FILLS = ("black", "mean", "noise", "blur")
_BLUR_SHARE = 0.05  # of the longer side: coarse enough that no letter or tube can be told


def black_out(image: NDArray[np.uint8], mask: NDArray[np.bool_], fill: str = "black") -> NDArray[np.uint8]:
    """A copy of an image without what its mask covers; the image itself is not changed.

    Args:
        image: uint8, (height, width) or (height, width, 3), at the natural size.
        mask: bool, (height, width), True = irrelevant.
        fill: `black`; `mean` of the pixels that are kept; `noise` with their mean and spread, the same each
            time for the same mask; or `blur`.

    Raises:
        MaskError: the mask has another size than the image.
        SettingsError: there is no such fill.
    """
    if mask.shape != image.shape[:2]:
        raise MaskError(f"The mask is {_size(mask)} pixels and the image {_size(image)}.")
    if fill not in FILLS:
        raise SettingsError(f"There is no fill {fill!r}; choose one of {', '.join(FILLS)}.")
    result = image.copy()
    if fill == "black" or mask.all():  # with nothing kept, nothing is left to take a colour from
        result[mask] = 0
    elif fill == "mean":
        result[mask] = np.rint(image[~mask].mean(axis=0))
    elif fill == "noise":
        result[mask] = _noise(image[~mask], mask)
    else:
        radius = _BLUR_SHARE * max(mask.shape)
        blurred = Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius))
        result[mask] = np.asarray(blurred)[mask]
    return result


def _noise(kept: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(masked pixels,) or (masked pixels, 3)."""
    random = np.random.default_rng(zlib.crc32(np.packbits(mask).tobytes()))
    shape = (int(mask.sum()), *kept.shape[1:])
    return np.clip(random.normal(kept.mean(axis=0), kept.std(axis=0), shape), 0, 255)


def _size(array: NDArray[np.generic]) -> str:
    return f"{array.shape[1]} x {array.shape[0]}"
