"""What clinicians painted, as masks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imil_backend.images.masks.masks import annotation_mask
from imil_backend.label_studio.labeling.label_config import IRRELEVANT, RELEVANT, read_label_config


def decode_mask(
    result: Sequence[Mapping[str, Any]],
    label_config: str,
    width: int,
    height: int,
    *,
    irrelevant: Collection[str] = IRRELEVANT,
    relevant: Collection[str] = RELEVANT,
) -> NDArray[np.bool_]:
    """What an annotation marks as irrelevant to the diagnosis.

    Supports brushes, bitmasks, magic wands, rectangles, ellipses and polygons; rotating or zooming the view
    makes no difference. If something is painted relevant, all else is irrelevant.

    Args:
        result: the annotation's `result`, as Label Studio's API, webhooks and exports give it.
        label_config: the project's labeling config, XML.
        width: of the image, in pixels, upright.
        height: likewise.
        irrelevant: the labels for what does not matter, not case-sensitive.
        relevant: the labels for what matters.

    Returns:
        bool, (height, width), True = irrelevant.

    Raises:
        LabelConfigError: the labeling config cannot be understood.
        MaskError: a region cannot be used; the message names it.
    """
    mapping = read_label_config(label_config, irrelevant=irrelevant, relevant=relevant)
    return annotation_mask(result, mapping.labels, width, height)
