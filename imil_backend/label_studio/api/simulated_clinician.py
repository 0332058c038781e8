"""A simulated clinician: paints known masks through Label Studio's API, for demos, tests and benchmarks.

Everything that it submits says so in the regions' `meta`; reports must name it as simulated.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imil_backend.errors import LabelConfigError
from imil_backend.label_studio.api.client import LabelStudio
from imil_backend.label_studio.labeling.brush_regions import brush_region
from imil_backend.label_studio.labeling.label_config import NOTHING_TO_BLACK_OUT, ProjectMapping

META = {"text": ["simulated clinician"]}


def paint(
    client: LabelStudio,
    mapping: ProjectMapping,
    task_id: int,
    irrelevant: NDArray[np.bool_] | None,
    *,
    lead_time: float = 10.0,
) -> int:
    """Submit a brush annotation, or 'Nothing to black out' where nothing is irrelevant.

    Args:
        client: of the user who is to have painted it.
        mapping: what the project's labeling config means.
        task_id: of Label Studio.
        irrelevant: bool of shape (height, width) at the image's natural size, or None for nothing.
        lead_time: seconds that it is said to have taken.

    Returns:
        The annotation's id.

    Raises:
        LabelConfigError: the project has no brush label for irrelevant, or no such choice.
    """
    item = _choice(mapping) if irrelevant is None or not irrelevant.any() else _region(mapping, irrelevant)
    return client.create_annotation(task_id, [item], lead_time)


def _choice(mapping: ProjectMapping) -> dict[str, Any]:
    choice = next((text for text, means in mapping.review.items() if means == NOTHING_TO_BLACK_OUT), None)
    if choice is None:
        raise LabelConfigError(
            "The project has no choice for 'Nothing to black out'. `imil connect --write` adds it."
        )
    return {
        "id": "simulated",
        "from_name": mapping.review_name,
        "to_name": mapping.image_name,
        "type": "choices",
        "value": {"choices": [choice]},
        "meta": META,
    }


def _region(mapping: ProjectMapping, irrelevant: NDArray[np.bool_]) -> dict[str, Any]:
    return {**brush_region(mapping, irrelevant, "simulated"), "origin": "manual", "meta": META}
