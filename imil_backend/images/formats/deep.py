"""Samples of more than 8 bits as they are stored, where Pillow keeps the upper 8 bits alone.

Pillow takes care of compression, filters, interlacing and strips. How it lays the bytes of a pixel into its
own channels is a matter of the raw mode, and two passes with different ones bring all bytes out.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL.ImageFile import ImageFile

# By the bytes of a pixel: the raw mode of each pass. ";16B" keeps the first byte of two, ";16L" the second.
_PASSES = {
    2: ("LA",),
    4: ("RGBA",),
    6: ("RGB;16B", "RGB;16L"),
    8: ("RGBA;16B", "RGBA;16L"),
}


def stored_bytes(image: ImageFile, reopen: Callable[[], ImageFile], pixel_bytes: int) -> NDArray[np.uint8]:
    """The bytes of all pixels: (height, width, pixel_bytes), contiguous.

    Args:
        image: not loaded yet, in the mode of the passes' raw mode; it is loaded with some of its bytes.
        reopen: opens it again, for an image can be decoded once.
        pixel_bytes: 2, 4, 6 or 8.
    """
    first, *more = _PASSES[pixel_bytes]
    passes = [_load(image, first)]
    for raw_mode in more:
        with reopen() as again:
            passes.append(_load(again, raw_mode))
    return np.stack(passes, axis=-1).reshape(*passes[0].shape[:2], pixel_bytes)


def _load(image: ImageFile, raw_mode: str) -> NDArray[np.uint8]:
    image.tile = [
        tile._replace(args=(raw_mode, *tile.args[1:]) if isinstance(tile.args, tuple) else raw_mode)
        for tile in image.tile
    ]
    image.load()
    return np.asarray(image)
