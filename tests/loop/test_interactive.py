from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from loop_fakes import MAPPING

from imil_backend.images.masks.rle import encode_rle
from imil_backend.loop.serving.predictions import without_what_is_painted

IMAGE = np.full((6, 8), 200, dtype=np.uint8)


def region(label: str, columns: slice) -> dict[str, Any]:
    alpha = np.zeros(IMAGE.shape, dtype=np.uint8)
    alpha[:, columns] = 255
    return {
        "id": label, "type": "brushlabels", "from_name": MAPPING.brush_name, "to_name": "image",
        "original_width": 8, "original_height": 6,
        "value": {"format": "rle", "rle": encode_rle(alpha), "brushlabels": [label]},
    }  # fmt: skip


@pytest.mark.parametrize(("label", "black"), [("Irrelevant", slice(0, 3)), ("Relevant", slice(3, 8))])
def test_what_is_painted_is_not_seen(label: str, black: slice) -> None:
    painted = {"result": [region(label, slice(0, 3))]}
    seen = without_what_is_painted(IMAGE, painted, MAPPING.labels, "black")
    expected = IMAGE.copy()
    expected[:, black] = 0
    assert np.array_equal(seen, expected)
    assert IMAGE.all()


@pytest.mark.parametrize(
    "context",
    [
        None,
        {},
        {"result": []},
        {"result": "odd"},
        {"result": [{**region("Irrelevant", slice(0, 3)), "value": {"format": "rle", "rle": [1, 2]}}]},
    ],
)
def test_without_anything_usable_the_whole_image_is_seen(context: Any) -> None:
    assert without_what_is_painted(IMAGE, context, MAPPING.labels, "black") is IMAGE
