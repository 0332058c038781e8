"""Rectangles, ellipses and polygons of Label Studio as boolean masks.

A shape covers the pixels whose centres lie inside it, so it is never off by half a pixel against the
image. Coordinates come in per cent of the natural size and may reach outside; what does is clipped.
Angles are clockwise degrees in natural pixels, about a rectangle's corner (x, y) and about the centre of an
ellipse; turning the view (`image_rotation`) does not change them. A side below zero, as scripts write it and
as the editor did when a shape was pulled over its own edge, reaches the other way; a radius has no sign.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from imil_backend.errors import ShapeError

MAX_POINTS = 10_000  # of one polygon: each may cross every row, and a drawn one has some hundred
_MAX_PERCENT = 1e6  # further outside than any drawing reaches; keeps the arithmetic finite
_BAND_CELLS = 1 << 18  # rasterised in bands of rows, to bound memory

Points = NDArray[np.float64]


def rectangle_mask(value: Mapping[str, object], width: int, height: int) -> NDArray[np.bool_]:
    """Mask, bool of shape (height, width), of a value with x, y, width, height and rotation.

    Raises:
        ShapeError: a number is missing, not finite or absurd.
    """
    sides = np.array([_of(value, "width") * width, _of(value, "height") * height]) / 100
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]) * sides
    cos, sin = _rotation(value)
    turned = corners @ np.array([[cos, sin], [-sin, cos]])
    return _fill(turned + _position(value, width, height), width, height)


def ellipse_mask(value: Mapping[str, object], width: int, height: int) -> NDArray[np.bool_]:
    """Mask, bool of shape (height, width), of a value with x, y, radiusX, radiusY and rotation.

    Raises:
        ShapeError: a number is missing, not finite or absurd.
    """
    x, y = _position(value, width, height)
    radius_x = abs(_of(value, "radiusX")) * width / 100
    radius_y = abs(_of(value, "radiusY")) * height / 100
    mask = np.zeros((height, width), dtype=bool)
    if min(radius_x, radius_y) < 1e-6:
        return mask
    cos, sin = _rotation(value)
    # With u and v across and down from the centre: a*u*u + 2*b*u*v + c*v*v <= 1, solved for u in each row.
    a = (cos / radius_x) ** 2 + (sin / radius_y) ** 2
    b = cos * sin * (1 / radius_x**2 - 1 / radius_y**2)
    c = (sin / radius_x) ** 2 + (cos / radius_y) ** 2
    down = np.arange(height) + 0.5 - y
    discriminant = (b * down) ** 2 - a * (c * down**2 - 1)
    rows = np.flatnonzero(discriminant >= 0)
    middle = x - b * down[rows] / a
    half = np.sqrt(discriminant[rows]) / a
    starts = np.clip(np.ceil(middle - half - 0.5), 0, width).astype(int)
    stops = np.clip(np.floor(middle + half + 0.5), 0, width).astype(int)
    for row, start, stop in zip(rows.tolist(), starts.tolist(), stops.tolist(), strict=True):
        mask[row, start:stop] = True
    return mask


def polygon_mask(value: Mapping[str, object], width: int, height: int) -> NDArray[np.bool_]:
    """Mask, bool of shape (height, width), of a value with points, a list of [x, y].

    A polygon that crosses itself is filled as the editor shows it (non-zero winding).

    Raises:
        ShapeError: fewer than three points, more than MAX_POINTS, not closed, or a bad coordinate.
    """
    points = value.get("points")
    if not isinstance(points, Sequence) or isinstance(points, str):
        raise ShapeError("it has no list of points")
    if not 3 <= len(points) <= MAX_POINTS:
        raise ShapeError(f"it has {len(points)} points, and a polygon has 3 to {MAX_POINTS}")
    if value.get("closed") is False:
        raise ShapeError("the polygon was not closed")
    if not all(isinstance(point, Sequence) and len(point) == 2 for point in points):
        raise ShapeError("a point is not a pair of numbers")
    percent = np.array([[_number(x, "a point's x"), _number(y, "a point's y")] for x, y in points])
    return _fill(percent * [width / 100, height / 100], width, height)


def _fill(points: Points, width: int, height: int) -> NDArray[np.bool_]:
    """Fill a closed outline, float64 of shape (points, 2) in pixels, by non-zero winding."""
    mask = np.zeros((height, width), dtype=bool)
    (x0, y0), (x1, y1) = points.T, np.roll(points, -1, axis=0).T
    first = int(np.clip(np.floor(y0.min()), 0, height))
    last = int(np.clip(np.ceil(y0.max()), 0, height))
    band = max(1, _BAND_CELLS // max(width + 1, len(points)))
    for top in range(first, last, band):
        rows = np.arange(top, min(top + band, last)) + 0.5
        down = (y0[:, None] <= rows) & (rows < y1[:, None])
        up = (y1[:, None] <= rows) & (rows < y0[:, None])
        edge, row = np.nonzero(down | up)
        slope = (x1[edge] - x0[edge]) / (y1[edge] - y0[edge])
        crossing = x0[edge] + (rows[row] - y0[edge]) * slope
        column = np.clip(np.ceil(crossing - 0.5), 0, width).astype(int)
        winding = np.zeros((len(rows), width + 1), dtype=np.int32)
        np.add.at(winding, (row, column), np.where(down[edge, row], 1, -1))
        mask[top : top + len(rows)] = np.cumsum(winding, axis=1)[:, :width] != 0
    return mask


def _position(value: Mapping[str, object], width: int, height: int) -> Points:
    return np.array([_of(value, "x") * width, _of(value, "y") * height]) / 100


def _rotation(value: Mapping[str, object]) -> tuple[float, float]:
    angle = math.radians(_number(value.get("rotation", 0), "rotation"))
    return math.cos(angle), math.sin(angle)


def _of(value: Mapping[str, object], name: str) -> float:
    return _number(value.get(name), name)


def _number(number: object, name: str) -> float:
    if not isinstance(number, (int, float)) or isinstance(number, bool):
        raise ShapeError(f"{name} is not a number")
    if not -_MAX_PERCENT <= number <= _MAX_PERCENT:  # false for NaN too
        raise ShapeError(f"{name} is not finite, or absurdly large")
    return float(number)
