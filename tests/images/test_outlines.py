"""Outlines are told from what is painted over."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from imil_backend.images.masks.outlines import is_outline

SHAPE = (600, 500)
NOTHING = np.zeros(SHAPE, bool)


def ellipse(width: int | None = None, gap: int = 0) -> np.ndarray:
    """Filled, or with a stroke of a width, from which a gap is left."""
    image = Image.new("1", SHAPE[::-1])
    draw = ImageDraw.Draw(image)
    box = (100, 80, 300, 480)
    if width is None:
        draw.ellipse(box, fill=1)
    else:
        draw.ellipse(box, outline=1, width=width)
        draw.rectangle((195, 60, 195 + gap, 110), fill=0)
    return np.asarray(image, bool)


@pytest.mark.parametrize("width", [6, 14, 30])
def test_a_stroke_around_something_is_an_outline(width: int) -> None:
    assert is_outline(ellipse(width), NOTHING)


def test_a_small_gap_closes_a_larger_one_does_not() -> None:
    assert is_outline(ellipse(14, gap=1), NOTHING)
    assert not is_outline(ellipse(14, gap=40), NOTHING)


def test_what_is_painted_over_is_none() -> None:
    assert not is_outline(ellipse(), NOTHING)
    assert not is_outline(ellipse(70), NOTHING)  # of so wide a brush that little is left inside
    assert not is_outline(NOTHING, NOTHING)


def test_two_lungs_that_touch_at_both_ends_are_none() -> None:
    lungs = np.zeros(SHAPE, bool)
    lungs[100:500, 50:200] = lungs[100:500, 300:450] = True
    lungs[100:120, 200:300] = lungs[480:500, 200:300] = True
    assert not is_outline(lungs, NOTHING)


def test_an_inside_that_is_painted_otherwise_is_no_oversight() -> None:
    outline = ellipse(14)
    assert not is_outline(outline, ellipse() & ~outline)
