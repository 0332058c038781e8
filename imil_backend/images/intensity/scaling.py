"""Grey values of any depth to 8 bits."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Window(NamedTuple):
    """Which values are shown, in the units of the values: half a width either side of the centre."""

    center: float
    width: float  # above 0


def between(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """`low` and below become 0, `high` and above 255, evenly in between; all 0 where `high` is not above.

    What is not a number becomes 0.
    """
    if not high > low:
        return np.zeros(values.shape, np.uint8)
    exact = np.result_type(values.dtype, np.float32)  # 64 bits where 32 would round neighbours to one value
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = (values.astype(exact) - low) * (255 / (high - low))
    np.clip(np.nan_to_num(scaled, copy=False), 0, 255, out=scaled)
    greys: NDArray[np.uint8] = np.rint(scaled).astype(np.uint8)
    return greys


def between_extremes(values: NDArray[Any], counted: NDArray[np.bool_] | None = None) -> NDArray[np.uint8]:
    """From the smallest finite value (0) to the largest (255): nothing is said about depth, so use all.

    Args:
        values: of any shape.
        counted: bool of the same shape; values that are not counted are scaled, and are no extremes.
    """
    finite = np.isfinite(values)
    finite = values[finite if counted is None else finite & counted]
    if not finite.size:
        return np.zeros(values.shape, np.uint8)
    return between(values, float(finite.min()), float(finite.max()))


def windowed(values: NDArray[Any], window: Window, function: str = "LINEAR") -> NDArray[np.uint8]:
    """The values of a window onto 0 to 255, by DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3.

    Args:
        values: of any shape.
        window: width above 0.
        function: SIGMOID, LINEAR_EXACT, or anything else for LINEAR.
    """
    center, width = window
    if function == "SIGMOID":
        with np.errstate(over="ignore"):
            shares = 1 / (1 + np.exp(-4 * (values - center) / width))
        return between(shares, 0, 1)
    if function == "LINEAR_EXACT" or width < 1:  # LINEAR is for whole numbers and knows no such width
        return between(values, center - width / 2, center + width / 2)
    half = max(width - 1, 0.001) / 2  # a width of 1 is a threshold
    return between(values, center - 0.5 - half, center - 0.5 + half)
