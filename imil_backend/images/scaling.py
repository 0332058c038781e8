"""Grey values of any depth to 8 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def between(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """`low` and below become 0, `high` and above 255, evenly in between; all 0 where `high` is not above."""
    if not high > low:
        return np.zeros(values.shape, np.uint8)
    scaled: NDArray[np.float32] = (values.astype(np.float32) - low) * (255 / (high - low))
    np.clip(scaled, 0, 255, out=scaled)
    return np.rint(scaled).astype(np.uint8)


def between_extremes(values: NDArray[Any]) -> NDArray[np.uint8]:
    """From the smallest finite value (0) to the largest (255): nothing is said about depth, so use all."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return np.zeros(values.shape, np.uint8)
    return between(np.nan_to_num(values), float(finite.min()), float(finite.max()))
