"""Scripted hands: the strokes with which they paint or correct a mask, and the time that these take.

They know the true mask, and stop as soon as what is painted has a Dice coefficient of GOOD with it. All is
planned on the mask's own pixels before anything is painted in the browser.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imil_backend.images.masks.masks import dice

GOOD = 0.95  # Dice coefficient that the hands are content with
LOOK, PRESS, SPEED = 2.0, 0.4, 800.0  # seconds, seconds, px of the screen a second
# px of the screen: the key ] makes the brush a step larger, up to BRUSH
DEFAULT_BRUSH, BRUSH_STEP, BRUSH = 15, 5, 50
MARGIN = 0.002  # of the Dice coefficient: the browser does not draw quite what is planned

_SIZES = (15, 30, 50)  # brushes that corrections are tried with
_TURNS = np.linspace(0, 2 * np.pi, 24, endpoint=False)
_LEAST = 0.1  # share of what a step of a stroke can correct at most: for less the hands do not go on
_MOST = 8  # strokes of a correction

Bits = NDArray[np.bool_]
Point = tuple[float, float]


@dataclass(frozen=True)
class Stroke:
    """A drag with the brush: its corners (x, y) in pixels of the mask; `erases`: painted as irrelevant."""

    points: NDArray[np.float64]
    erases: bool = False

    @property
    def length(self) -> float:
        """In pixels of the mask."""
        return float(np.hypot(*np.diff(self.points, axis=0).T).sum())

    def fractions(self, mask: Bits) -> list[Point]:
        """The corners in fractions of the image."""
        height, width = mask.shape
        return [((x + 0.5) / width, (y + 0.5) / height) for x, y in self.points]


@dataclass
class Done:
    """What the hands did for a task."""

    hand: float = LOOK
    waited: float = 0.0
    strokes: int = 0
    path: float = 0.0  # px of the screen
    dice: float = 0.0

    def press(self, times: int = 1) -> None:
        """Keys or clicks."""
        self.hand += PRESS * times

    def draw(self, length: float) -> None:
        """A stroke of a length on the screen."""
        self.strokes += 1
        self.path += length
        self.hand += PRESS + length / SPEED


@dataclass
class Plan:
    """Strokes with a brush of one size, px of the screen."""

    brush: int
    strokes: list[Stroke] = field(default_factory=list)

    def seconds(self, scale: float) -> float:
        """Keys and strokes; `scale`: px of the screen in a pixel of the mask."""
        done = Done(0.0)
        done.press(presses(self.brush) * bool(self.strokes))
        for number, some in enumerate(self.by_label().values()):
            done.press(1 + number)  # the second label after Esc: the region just painted is selected
            for stroke in some:
                done.draw(stroke.length * scale)
        return done.hand

    def by_label(self) -> dict[bool, list[Stroke]]:
        """Those painted as relevant (False), and those as irrelevant (True), if any."""
        labels = {
            erases: [each for each in self.strokes if each.erases == erases] for erases in (False, True)
        }
        return {erases: some for erases, some in labels.items() if some}


def presses(brush: int) -> int:
    """How often ] is pressed for a brush of this size."""
    return (brush - DEFAULT_BRUSH) // BRUSH_STEP


def correction(proposed: Bits, wanted: Bits, scale: float) -> Plan | None:
    """The quickest strokes found that make a mask good; None: none were found.

    Args:
        proposed: bool (height, width), what is painted.
        wanted: the same, what should be.
        scale: px of the screen in a pixel of the mask.
    """
    plans = [plan for size in _SIZES if (plan := _corrected(proposed, wanted, size, scale))]
    return min(plans, key=lambda plan: plan.seconds(scale), default=None)


def from_nothing(wanted: Bits, scale: float) -> Plan:
    """Each half of the image filled in rows with the largest brush, as far apart as will do."""
    radius = BRUSH / 2 / scale
    for apart in (2.0, 1.8, 1.6, 1.4, 1.2):
        plan = Plan(BRUSH, _rows(wanted, radius, apart))
        painted = np.zeros_like(wanted)
        for stroke in plan.strokes:
            painted |= drawn(stroke, radius, wanted)
        if dice(painted, wanted) >= GOOD + MARGIN:
            break
    return plan


def drawn(stroke: Stroke, radius: float, mask: Bits) -> Bits:
    """The pixels under a stroke, of the mask's shape."""
    touched = np.zeros_like(mask)
    for begin, end in zip(stroke.points[:-1], stroke.points[1:], strict=True):
        steps = int(4 * np.hypot(*(end - begin)) / radius) + 1
        for share in np.linspace(0, 1, steps + 1):
            touched[_disc(begin + share * (end - begin), radius, mask.shape)] = True
    return touched


def repainted(proposed: Bits, strokes: Sequence[Stroke], radius: float) -> Bits:
    """What is relevant after strokes: what was painted irrelevant is not, whatever was painted last."""
    mask, erased = proposed.copy(), np.zeros_like(proposed)
    for stroke in strokes:
        (erased if stroke.erases else mask)[drawn(stroke, radius, proposed)] = True
    return mask & ~erased


def _corrected(proposed: Bits, wanted: Bits, size: int, scale: float) -> Plan | None:
    plan, mask, radius = Plan(size), proposed, size / 2 / scale
    while dice(mask, wanted) < GOOD + MARGIN:
        best: tuple[float, Bits, Stroke | None] = dice(mask, wanted), mask, None
        for erases in (False, True):
            if len(plan.strokes) < _MOST and (stroke := _best_stroke(mask, wanted, radius, erases)):
                after = repainted(proposed, [*plan.strokes, stroke], radius)
                best = max(best, (dice(after, wanted), after, stroke), key=lambda each: each[0])
        _, mask, found = best
        if found is None:
            return None
        plan.strokes.append(found)
    return plan


def _best_stroke(mask: Bits, wanted: Bits, radius: float, erases: bool) -> Stroke | None:
    """From where most is to be corrected along it in both directions, while that does more good than harm."""
    touching = mask if erases else ~mask
    right = ~wanted if erases else wanted
    worth = np.where(touching, np.where(right, 1.0, -1.0), 0.0)
    start = _richest(worth, radius)
    least = _LEAST * 2 * radius * max(1.0, radius)
    if worth[_disc(start, radius, mask.shape)].sum() <= least:
        return None
    worth[_disc(start, radius, mask.shape)] = 0
    forth = _walk(worth, start, radius, least)
    back = _walk(worth, start, radius, least)
    return Stroke(np.array([*back[::-1], start, *(forth or [start + np.array([0.5, 0])])]), erases)


def _walk(
    worth: NDArray[np.float64], start: NDArray[np.float64], radius: float, least: float
) -> list[NDArray[np.float64]]:
    """Points from a start on, each where the next step is worth most; what is touched is done."""
    path: list[NDArray[np.float64]] = []
    step, here = max(1.0, radius), start
    while True:
        nexts = [here + step * np.array([np.cos(turn), np.sin(turn)]) for turn in _TURNS]
        worths = [worth[_disc(point, radius, worth.shape)].sum() for point in nexts]
        best = int(np.argmax(worths))
        if worths[best] <= least:
            return path
        here = nexts[best]
        worth[_disc(here, radius, worth.shape)] = 0
        path.append(here)


def _rows(wanted: Bits, radius: float, apart: float) -> list[Stroke]:
    """A stroke for each half of the image: rows from side to side, a brush's radius inside."""
    inside = _eroded(wanted, radius * 0.9)
    found = []
    for half in (slice(0, wanted.shape[1] // 2), slice(wanted.shape[1] // 2, None)):
        points: list[Point] = []
        rows = np.flatnonzero(inside[:, half].any(axis=1))
        for number, row in enumerate(rows[:: max(1, int(radius * apart))]):
            columns = np.flatnonzero(inside[row, half]) + (half.start or 0)
            ends = [(float(columns[0]), float(row)), (columns[-1] + 0.5, float(row))]
            points += ends if number % 2 == 0 else ends[::-1]
        if points:
            found.append(Stroke(np.array(points)))
    return found


def _eroded(mask: Bits, radius: float) -> Bits:
    """Where a brush of this radius stays inside the mask."""
    kept = mask.copy()
    for dy, dx in _offsets(radius):
        kept &= _shifted(mask, dy, dx)
    return kept


def _richest(worth: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """The place (x, y) where a brush of this radius touches most worth."""
    sums = np.zeros_like(worth)
    for dy, dx in _offsets(radius):
        sums += _shifted(worth, dy, dx)
    y, x = np.unravel_index(int(sums.argmax()), sums.shape)
    return np.array([x, y], np.float64)


def _shifted(values: NDArray[Any], dy: int, dx: int) -> NDArray[Any]:
    """What lies so many pixels below and to the right, nothing beyond the edge."""
    height, width = values.shape
    reach = max(abs(dy), abs(dx))
    padded = np.pad(values, reach)
    return padded[reach + dy : reach + dy + height, reach + dx : reach + dx + width]


@cache
def _offsets(radius: float) -> NDArray[np.int64]:
    """(n, 2) of dy, dx in a disc."""
    reach = int(radius)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return np.argwhere(x**2 + y**2 <= radius**2) - reach


def _disc(centre: NDArray[np.float64], radius: float, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Rows and columns of the pixels whose middle lies under a brush."""
    (x, y), reach = centre, int(radius) + 1
    rows, columns = np.mgrid[
        max(0, int(y) - reach) : min(shape[0], int(y) + reach + 2),
        max(0, int(x) - reach) : min(shape[1], int(x) + reach + 2),
    ]
    under = (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
    return rows[under], columns[under]
