"""Forest plots of two versions: what each reaches, and by how much they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imil_backend.learning.evaluation.estimates import Estimate
from imil_backend.learning.plots.themed import COLOURS, MARKERS, Plot, axes_of, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BESIDE = 0.16  # of a row, between the two versions


@dataclass(frozen=True)
class Row:
    """A metric of both versions."""

    title: str
    before: Estimate
    after: Estimate


@dataclass(frozen=True)
class Difference:
    """The new version's value less the old one's, as the verdict was reached."""

    title: str
    value: float
    lower: float
    upper: float
    margin: float
    state: str  # of the finding


def draw_values(directory: Path, split: str, rows: Sequence[Row]) -> Plot:
    """Each metric before and after, with 95 % intervals by group."""
    file = f"before-and-after-{split}.svg"
    with axes_of(directory / file, rows=len(rows)) as axes:
        for version, name in enumerate(("before", "after")):
            found: list[Estimate] = [getattr(row, name) for row in rows]
            axes.errorbar(
                [each.value for each in found],
                [place + (2 * version - 1) * _BESIDE for place in range(len(rows))],
                xerr=_apart(found),
                color=COLOURS[1 - version], marker=MARKERS[version], linestyle="", capsize=3, label=name,
            )  # fmt: skip
        _named(axes, [row.title for row in rows])
        axes.set_xlim(right=1.02)
        axes.set_xlabel(f"{split} split, 95% intervals")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    told = "; ".join(f"{row.title}: {_told(row.before)}, then {_told(row.after)}" for row in rows)
    return Plot(file, f"Before and after, {split}", f"With 95% intervals by group. {told}.")


def draw_differences(directory: Path, split: str, rows: Sequence[Difference]) -> Plot:
    """The differences that a verdict rests on, with their bounds and the largest acceptable losses."""
    file = f"differences-{split}.svg"
    with axes_of(directory / file, rows=len(rows)) as axes:
        axes.axvline(0, color=COLOURS[7], linewidth=1)
        for place, row in enumerate(rows):
            axes.plot(
                [-row.margin] * 2, [place - 0.35, place + 0.35],
                color=COLOURS[1], linestyle="--", label=None if place else "margin",
            )  # fmt: skip
        axes.errorbar(
            [row.value for row in rows],
            range(len(rows)),
            xerr=_apart(rows),
            color=COLOURS[0], marker=MARKERS[1], linestyle="", capsize=3, label="after less before",
        )  # fmt: skip
        _named(axes, [row.title for row in rows])
        axes.set_xlabel("difference, 95% bounds")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    told = "; ".join(
        f"{row.title}: {row.value:+.3f} ({row.lower:+.3f} to {row.upper:+.3f}), margin {row.margin:.3f}, "
        f"{row.state}"
        for row in rows
    )
    return Plot(file, "Differences and margins", f"Each bound holds with 95% confidence. {told}.")


def _named(axes: Axes, titles: Sequence[str]) -> None:
    axes.set_yticks(range(len(titles)), [short(title) for title in titles])
    axes.set_ylim(len(titles) - 0.5, -0.5)  # the first one on top


def _apart(values: Sequence[Estimate | Difference]) -> list[list[float]]:
    """How far the ends of the intervals are below and above the values."""
    return [[each.value - each.lower for each in values], [each.upper - each.value for each in values]]


def _told(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ({estimate.lower:.3f} to {estimate.upper:.3f})"
