"""What a round brush must leave along the strokes that a test drags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from support.browser import ImageBox, Stroke

BRUSH_RADIUS = 7.5  # CSS pixels, unless the clinician changes it


def assert_is_painted(mask: NDArray[Any] | None, strokes: Sequence[Stroke], box: ImageBox) -> None:
    """The mask is what a brush of one width leaves along straight strokes, at natural size."""
    assert mask is not None
    assert mask.shape == (box.natural_height, box.natural_width)
    scale = box.natural_width / box.width
    radius, tolerance = BRUSH_RADIUS * scale, 1.5 * scale + 0.5
    distance = np.min([_distance(stroke, mask.shape) for stroke in strokes], axis=0)
    assert mask[distance < radius - tolerance].all()
    assert not mask[distance > radius + tolerance].any()


def _distance(stroke: Stroke, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Distance of every pixel's centre to a straight stroke, in pixels of the image."""
    height, width = shape
    start, end = (np.array(point) * (width, height) for point in stroke)
    y, x = np.mgrid[:height, :width] + 0.5
    direction = end - start
    along = ((x - start[0]) * direction[0] + (y - start[1]) * direction[1]) / (direction @ direction)
    along = along.clip(0, 1)
    distance: NDArray[np.float64] = np.hypot(
        x - start[0] - along * direction[0], y - start[1] - along * direction[1]
    )
    return distance
