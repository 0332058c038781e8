"""Pixels of any size as a network takes them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def network_input(pixels: NDArray[np.uint8], size: int, channels: int) -> NDArray[np.uint8]:
    """Resize with Pillow's antialiased bilinear filter, without regard to the aspect ratio.

    Args:
        pixels: uint8, (height, width) or (height, width, 3).
        size: pixels a side of what comes out.
        channels: 1 (colours become greys) or 3 (greys are repeated).

    Returns:
        uint8, (size, size, channels), contiguous.
    """
    image = Image.fromarray(pixels)
    if channels == 1 and pixels.ndim == 3:
        image = image.convert("L")
    resized = np.atleast_3d(np.asarray(image.resize((size, size), Image.Resampling.BILINEAR)))
    return np.ascontiguousarray(np.broadcast_to(resized, (size, size, channels)))
