"""Interactive predictions: what the model says without what has been painted so far."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from imil_backend.errors import MaskError
from imil_backend.images.blackout import black_out
from imil_backend.images.masks import LabelMapping, annotation_mask

logger = logging.getLogger(__name__)


def without_what_is_painted(
    image: npt.NDArray[np.uint8], context: Mapping[str, Any] | None, labels: LabelMapping
) -> npt.NDArray[np.uint8]:
    """The image as training would see it, were the regions of an interactive request submitted.

    Args:
        image: uint8, (height, width) or (height, width, 3), at its natural size.
        context: `params.context` of Label Studio's request; its `result` holds the regions drawn so far.
        labels: what the painted labels mean.

    Returns:
        The image itself where nothing is painted that means anything, or that can be used.
    """
    result = context.get("result") if isinstance(context, Mapping) else None
    if not isinstance(result, list) or not all(isinstance(item, Mapping) for item in result):
        return image
    height, width = image.shape[:2]
    try:
        mask = annotation_mask(result, labels, width, height)
    except MaskError as error:
        logger.warning("What was painted so far is not used: %s", error)
        return image
    return black_out(image, mask) if mask.any() else image
