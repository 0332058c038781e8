"""Masks as regions of a brush, in the form of Label Studio's results."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imil_backend.errors import LabelConfigError
from imil_backend.images.masks.masks import encode_rle
from imil_backend.label_studio.labeling.label_config import ProjectMapping


def brush_region(
    mapping: ProjectMapping, irrelevant: NDArray[np.bool_], name: str, *, outside: bool = False
) -> dict[str, Any]:
    """A mask as the brush of a project would have painted it.

    Args:
        mapping: what the project's labeling config means.
        irrelevant: bool of shape (height, width) at the image's natural size.
        name: id of the region, unique in its result.
        outside: paint what is relevant, which is all else, where the config has a label for it.

    Raises:
        LabelConfigError: the project has no brush label for what is irrelevant.
    """
    if mapping.brush_name is None:
        raise LabelConfigError(
            "The project has no <BrushLabels> with a label for what is irrelevant. `imil connect "
            "--write` adds one."
        )
    inverse = outside and mapping.brush_relevant is not None
    painted = ~irrelevant if inverse else irrelevant
    height, width = painted.shape
    rle = encode_rle(np.where(painted, 255, 0).astype(np.uint8))
    label = mapping.brush_relevant if inverse else mapping.brush_label
    return {
        "id": name,
        "from_name": mapping.brush_name,
        "to_name": mapping.image_name,
        "type": "brushlabels",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {"format": "rle", "rle": rle, "brushlabels": [label]},
    }
