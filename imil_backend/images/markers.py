"""Markers as they are found in medical images, drawn into images at their natural size: a planted shortcut.

Where a marker is, or what it says, tells a class. A network that reads it looks good as long as the marker
agrees with the label, and fails where it does not. What a clinician would paint over is known exactly.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from imil_backend.errors import SettingsError

CONTRADICTS = "contradicts"  # column of a planted data set's table: 1 where a marker tells another class

_BRIGHT = 245
_AWAY, _JITTER = 0.03, 0.03  # from the edge, and by how much at random: in shares of the shorter side
_WIDER = 64  # people paint beyond what they paint over: by one in so many pixels of the longer side
_LETTERS = "LRABCDEFGHJKMNOPQSTUVWXYZ"  # that of class 0 first
_SIDES = 4  # of a film

Bits = NDArray[np.bool_]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Marked:
    """An image with markers."""

    pixels: Pixels  # as they were, but for the markers
    drawn: Bits  # (height, width), what the markers cover
    mask: Bits  # (height, width), what a clinician would paint over: a little more

    def png(self) -> bytes:
        """The image as a PNG file."""
        buffer = io.BytesIO()
        Image.fromarray(self.pixels).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()


@dataclass(frozen=True)
class _Sheet:
    """Where a marker is drawn, in two layers of 0 to 255, and what it is to tell."""

    dark: ImageDraw.ImageDraw
    bright: ImageDraw.ImageDraw  # over it
    width: int
    height: int
    told: int  # class
    place: float  # of this class among all: 0 for the first, 1 for the last
    jitter: tuple[float, float]  # in shares of the shorter side

    @property
    def side(self) -> int:
        """The shorter one, which sizes are shares of."""
        return min(self.width, self.height)

    def across(self, share: float, place: float | None = None) -> float:
        """Left border of what is so wide, between the left edge (place 0) and the right one (place 1)."""
        place = self.place if place is None else place
        near = (_AWAY + self.jitter[0]) * self.side
        return near + place * (self.width - 2 * near - share * self.side)


Box = tuple[slice, slice]  # rows and columns that are painted over as a whole


def draw_markers(
    pixels: Pixels, markers: Collection[str], told: int, classes: int, random: np.random.Generator
) -> Marked:
    """Draw markers that tell class number `told`.

    Args:
        pixels: (height, width), or (height, width, 3).
        markers: names in MARKERS; all of them are drawn.
        told: 0 to classes - 1.
        classes: how many there are, at least two.
        random: draws the places.

    Raises:
        SettingsError: a marker cannot tell so many classes.
    """
    height, width = pixels.shape[:2]
    layers = [Image.new("L", (width, height)) for _ in range(2)]
    painted = np.zeros((height, width), bool)
    for name in markers:
        check_marker(name, classes)
        shift, drop = random.uniform(0, _JITTER, 2)
        dark, bright = (ImageDraw.Draw(layer) for layer in layers)
        sheet = _Sheet(dark, bright, width, height, told, told / (classes - 1), (shift, drop))
        if box := MARKERS[name](sheet):
            painted[box] = True
    film = Image.fromarray(pixels)
    for layer, grey in zip(layers, (0, _BRIGHT), strict=True):
        film.paste(Image.new(film.mode, film.size, grey if film.mode == "L" else (grey,) * 3), mask=layer)
    drawn = np.maximum(*(np.asarray(layer) for layer in layers)) > 0
    return Marked(np.asarray(film), drawn, _wider(painted | drawn))


def check_marker(name: str, classes: int) -> None:
    """Check that a marker is known, and can tell so many classes.

    Raises:
        SettingsError: it cannot.
    """
    if name not in MARKERS:
        raise SettingsError(f"There is no marker {name!r}; choose one of {', '.join(MARKERS)}.")
    most = {"letter": len(_LETTERS), "edge": _SIDES}.get(name)
    if most is not None and classes > most:
        raise SettingsError(
            f"The marker {name!r} tells at most {most} classes, and there are {classes}. Choose another."
        )


def agreements(labels: NDArray[np.int64], share: float, random: np.random.Generator) -> Bits:
    """For which samples the marker tells the label: this share of each class, as exactly as it divides."""
    agrees = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        own = random.permutation(np.flatnonzero(labels == label))
        agrees[own[: round(share * len(own))]] = True
    return agrees


def _wider(region: Bits) -> Bits:
    margin = math.ceil(max(region.shape) / _WIDER)
    for axis in (0, 1):  # in turn: a filter over the square took 50 times as long
        padding = [(margin, margin) if each == axis else (0, 0) for each in (0, 1)]
        region = np.any(sliding_window_view(np.pad(region, padding), 2 * margin + 1, axis), axis=-1)
    return region


def _tag(sheet: _Sheet) -> Box | None:
    """A square lead tag at the upper edge, from left to right by class."""
    side = round(0.1 * sheet.side)
    left, top = round(sheet.across(0.1)), round((_AWAY + sheet.jitter[1]) * sheet.side)
    sheet.bright.rectangle((left, top, left + side - 1, top + side - 1), fill=255)
    return None


def _letter(sheet: _Sheet) -> Box | None:
    """A lead letter at the upper edge: L on the right for the first class, R on the left for the second."""
    height = 0.13
    center = sheet.across(height, 1 - sheet.place) + height / 2 * sheet.side
    middle = (_AWAY + height / 2 + sheet.jitter[1]) * sheet.side
    font = ImageFont.load_default(height * sheet.side)
    stroke = 0.008 * sheet.side
    sheet.bright.text((center, middle), _LETTERS[sheet.told], 255, font, anchor="mm", stroke_width=stroke)
    return None


def _tube(sheet: _Sheet) -> Box | None:
    """A tube from the neck down, which ends further on the right the later the class."""
    shift, drop = sheet.jitter
    away = 2 * sheet.place - 1  # -1 to 1
    along = [(0.5, 0.0), (0.5 + 0.02 * away, 0.2), (0.5 + 0.08 * away, 0.35)]
    along.append((0.5 + (0.17 + shift) * away, 0.55 + 2 * drop))
    points = [(x * sheet.width, y * sheet.height) for x, y in along]
    sheet.bright.line(points, fill=255, width=max(1, round(0.015 * sheet.side)), joint="curve")
    return None


def _drain(sheet: _Sheet) -> Box | None:
    """A drain from the side into a lung, lower the later the class; none for the first one."""
    if sheet.told:
        shift, drop = sheet.jitter
        start, end = 0.4 + 0.1 * sheet.place + shift, 0.32 + 0.1 * sheet.place + drop
        points = [(sheet.width, start * sheet.height), (0.68 * sheet.width, end * sheet.height)]
        sheet.bright.line(points, fill=255, width=max(1, round(0.015 * sheet.side)))
    return None


def _ruler(sheet: _Sheet) -> Box | None:
    """The ticks of a ruler from above to below, further on the right the later the class."""
    length = max(2, round(0.06 * sheet.side))
    left, step = round(sheet.across(0.06)), max(2, round(0.04 * sheet.side))
    top = round((0.2 + sheet.jitter[1]) * sheet.height)
    rows = range(top, round(0.8 * sheet.height), step)
    thickness = max(1, round(0.006 * sheet.side))
    for number, row in enumerate(rows):
        sheet.bright.line(
            (left, row, left + (length if number % 5 == 0 else length // 2), row), 255, thickness
        )
    return slice(rows[0], rows[-1] + thickness), slice(left, left + length + 1)


def _box(sheet: _Sheet) -> Box | None:
    """A dark box with burned-in text at the lower edge, from left to right by class."""
    wide, high = 0.3, 0.09
    left, right = (round(sheet.across(wide) + share * sheet.side) for share in (0, wide))
    bottom = round(sheet.height - (_AWAY + sheet.jitter[1]) * sheet.side)
    top = round(bottom - high * sheet.side)
    sheet.dark.rectangle((left, top, right, bottom), fill=255)
    sheet.bright.rectangle((left, top, right, bottom), outline=255, width=max(1, round(0.006 * sheet.side)))
    font = ImageFont.load_default(0.6 * high * sheet.side)
    sheet.bright.text(((left + right) / 2, (top + bottom) / 2), "PLANTED", 255, font, anchor="mm")
    return slice(top, bottom + 1), slice(left, right + 1)


def _edge(sheet: _Sheet) -> Box | None:
    """The unexposed edge of a film: on the left, right, lower or upper side, by class."""
    thick = round((0.03 + sheet.jitter[0]) * sheet.side)
    right, bottom = sheet.width - 1, sheet.height - 1
    strips = (
        (0, 0, thick, bottom),
        (right - thick, 0, right, bottom),
        (0, bottom - thick, right, bottom),
        (0, 0, right, thick),
    )
    sheet.bright.rectangle(strips[sheet.told], fill=255)
    return None


MARKERS: dict[str, Callable[[_Sheet], Box | None]] = {
    "letter": _letter,
    "tube": _tube,
    "ruler": _ruler,
    "box": _box,
    "edge": _edge,
    "tag": _tag,
    "drain": _drain,
}
