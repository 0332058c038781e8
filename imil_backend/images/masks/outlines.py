"""Whether something was outlined with a brush in the place of being painted over.

(scipy.ndimage.binary_fill_holes would do, but scipy is needed for nothing else here.)
"""

from __future__ import annotations

import numpy as np

from imil_backend.images.masks.masks import Mask

_CELLS = 128  # a side at most: a gap of some pixels in an outline of a large image closes
_ENCLOSED = 0.5  # of what is painted: two lungs whose tips touch enclose less, a narrow outline more


def is_outline(painted: Mask, besides: Mask) -> bool:
    """Whether strokes enclose at least half as much as they cover.

    Args:
        painted: the strokes, bool of shape (height, width).
        besides: other strokes, of the same shape; what they cover inside is no oversight.
    """
    strokes = _cells(painted)
    enclosed = ~strokes & ~_around(strokes) & ~_cells(besides)
    return bool(enclosed.sum() >= _ENCLOSED * strokes.sum() > 0)


def _cells(mask: Mask) -> Mask:
    """A grid over the image, with a margin of a cell: in which cells a pixel is painted."""
    step = -(-max(mask.shape) // _CELLS)
    height, width = mask.shape
    rows = np.stack([mask[start : start + step].any(axis=0) for start in range(0, height, step)])
    cells = [rows[:, start : start + step].any(axis=1) for start in range(0, width, step)]
    return np.pad(np.stack(cells, axis=1), 1)


def _around(strokes: Mask) -> Mask:
    """The cells that are reached from the margin without crossing a stroke."""
    reached = np.zeros_like(strokes)
    reached[0] = True
    while True:
        grown = reached.copy()
        grown[1:] |= reached[:-1]
        grown[:-1] |= reached[1:]
        grown[:, 1:] |= reached[:, :-1]
        grown[:, :-1] |= reached[:, 1:]
        grown &= ~strokes
        if np.array_equal(grown, reached):
            return reached
        reached = grown
