"""Markers planted into images at random, and where they are: what a clinician would paint, simulated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

KINDS = ("tag", "letter", "tube", "ruler")


def plant(
    image: NDArray[np.uint8], kinds: Sequence[str], random: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A grey image (size, size) with a bright marker of each kind, and the mask (size, size) of them all.

    A tag is a square of a tenth of the side in an upper corner; a letter stands at the left or right border;
    a tube comes in from above, with bends; a ruler's ticks run along the left or right border, and its mask
    is their bounding box.
    """
    planted, painted = image.copy(), np.zeros(image.shape, bool)
    for kind in kinds:
        drawing = Image.new("L", image.shape[::-1])
        box = _DRAWN[kind](ImageDraw.Draw(drawing), len(image), random)
        drawn = np.asarray(drawing) > 100
        planted[drawn] = random.integers(210, 256)
        painted |= drawn
        if box:
            painted[box] = True
    return planted, painted


Box = tuple[slice, slice]


def _tag(draw: ImageDraw.ImageDraw, size: int, random: np.random.Generator) -> Box | None:
    side = round(size / 10)
    gap, top = random.integers(size // 48, size // 16, 2)
    left = int(gap if random.random() < 0.5 else size - side - gap)
    draw.rectangle((left, int(top), left + side - 1, int(top) + side - 1), fill=255)
    return None


def _letter(draw: ImageDraw.ImageDraw, size: int, random: np.random.Generator) -> Box | None:
    left = int(random.choice((0.04, 0.82)) * size + random.integers(-2, 3))
    top = int(random.integers(size // 24, size * 5 // 6))
    letter = str(random.choice(list("RLAP")))
    draw.text((left, top), letter, fill=255, font=ImageFont.load_default(size * 0.15))
    return None


def _tube(draw: ImageDraw.ImageDraw, size: int, random: np.random.Generator) -> Box | None:
    points = [(int(random.integers(size // 5, size * 4 // 5)), 0)]
    for row in range(size // 8, int(random.integers(size // 2, size)), size // 8):
        points.append((points[-1][0] + int(random.integers(-size // 14, size // 14 + 1)), row))
    draw.line(points, fill=255, width=max(1, size // 48))
    return None


def _ruler(draw: ImageDraw.ImageDraw, size: int, random: np.random.Generator) -> Box | None:
    length, step = max(2, size // 16), max(2, size // 24)
    left = int(random.choice((1, size - length - 1)))
    rows = range(size // 5, size * 4 // 5, step)
    for number, row in enumerate(rows):
        draw.line((left, row, left + (length if number % 2 else length // 2), row), fill=255)
    return slice(rows[0], rows[-1] + 1), slice(left, left + length + 1)


_DRAWN = {"tag": _tag, "letter": _letter, "tube": _tube, "ruler": _ruler}
