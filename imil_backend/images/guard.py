"""Checks that a decoded image shows a picture before it becomes a sample.

What a window, a lookup table, a colour map or transparency may do to a picture shows in what is left of it,
whatever the format and the cause.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imil_backend.errors import BlankImageError

# A scan of text is stored as two values, a drawing or a label map as a few more; a film has hundreds.
MANY_LEVELS = 16
MAX_LEVELS = 256  # counted no further
# The darkest and brightest sixteenth of the greys: 0.2 % of a monitor's light (a gamma of 2.2), and 12 bits
# taken for 16 end here.
_DARK, _BRIGHT = 15, 240
# A thousandth of a film of 5 megapixels is a square of 70 pixels: less than any finding that is looked for.
_NEARLY_ALL = 0.999
_GRID = 32  # a grid of so many pixels a side tells most images at once
_PLAIN = 0.05  # of the grid


def check_picture(pixels: NDArray[np.uint8], stored_levels: Callable[[], int], name: str, cause: str) -> None:
    """Refuse an image that shows one grey, or next to nothing of the many values that it stores.

    Args:
        pixels: (height, width) or (height, width, 3), as training sees them.
        stored_levels: how many different values the file stores; asked in doubt only. 0 where what is shown
            is what is stored, so that nothing can have been lost.
        name: what messages call the image.
        cause: what may have hidden the picture, for the message.

    Raises:
        BlankImageError: there is no picture to be seen.
    """
    if _is_plain(pixels if pixels.ndim == 2 else pixels[..., 1]):
        return
    finding = _finding(pixels)
    if finding is None:
        return
    levels, shown = finding
    stored = stored_levels()
    if stored >= MANY_LEVELS or stored > levels == 1:
        count = f"{MAX_LEVELS:,} or more" if stored >= MAX_LEVELS else f"{stored:,}"
        raise BlankImageError(f"{name} is {shown}, though {count} different values are stored: {cause}.")
    if levels == 1:
        raise BlankImageError(f"{name} is {shown}: there is no picture in it.")


def count_levels(stored: NDArray[Any]) -> int:
    """How many different values an array holds, of all its channels together; at most MAX_LEVELS."""
    return min(len(np.unique(stored)), MAX_LEVELS)


def _is_plain(channel: NDArray[np.uint8]) -> bool:
    """Whether a coarse grid shows enough of greys that are no extremes, not dark and not bright: cheaply."""
    rows, columns = (max(1, side // _GRID) for side in channel.shape)
    grid = channel[::rows, ::columns].ravel()
    enough = _PLAIN * grid.size
    between = (grid > grid.min()) & (grid < grid.max())
    return all(np.count_nonzero(greys) > enough for greys in (between, grid > _DARK, grid < _BRIGHT))


def _finding(pixels: NDArray[np.uint8]) -> tuple[int, str] | None:
    """How many greys there are and what is wrong with them, in words; None where nothing is."""
    counts = np.reshape(Image.fromarray(pixels).histogram(), (-1, 256))
    levels = int(np.count_nonzero(counts, axis=1).max())
    if levels == 1:
        return 1, "one grey all over" if pixels.ndim == 2 else "one colour all over"
    share = counts / counts[0].sum()
    dark, bright = share[:, : _DARK + 1].sum(axis=1).min(), share[:, _BRIGHT:].sum(axis=1).min()
    if max(dark, bright) >= _NEARLY_ALL:
        return levels, "nearly black all over" if dark > bright else "nearly white all over"
    if np.sort(share, axis=1)[:, -2:].sum(axis=1).min() >= _NEARLY_ALL:
        return levels, "two greys only" if pixels.ndim == 2 else "two colours only"
    return None
