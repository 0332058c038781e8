"""How all plots look: SVGs that follow the reader's light or dark colours, with a text for who sees none."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imil_backend.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Each has a contrast of at least 3 to 1 with white and with the dark background.
COLOURS = ("#2f80c8", "#c7602b", "#2c9269", "#a667c2", "#b8860b", "#cf4f73", "#5f8a2b", "#7b7fd1")
MARKERS = "osD^vPX*"  # so that nothing is told by colour alone
LINES = ("-", "--", "-.", ":")
_INK = "#010203"  # stands for the colour of text, which the page's scheme decides
_SCHEMES = "<style>svg{color:#1f2328}@media(prefers-color-scheme:dark){svg{color:#e6e8eb}}</style>"
_STYLE: dict[Any, object] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "imil",  # the same plot is the same file
    "text.parse_math": False,  # names of classes are taken as they are
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.2,
    "legend.frameon": False,
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color"), _INK
    ),
}
_WIDTH, _HEIGHT = 4.6, 3.6  # inches of 72 points
_ROW, _FRAME = 0.45, 1.0  # inches: a row of a plot that has rows, and what is above and below them
_MOST_LETTERS = 24


@dataclass(frozen=True)
class Plot:
    """A plot that was drawn.

    Attributes:
        file: name of the SVG.
        title: what it shows.
        text: what is to be seen in it, with its numbers.
    """

    file: str
    title: str
    text: str


@contextmanager
def axes_of(path: Path, *, square: bool = False, rows: int | None = None) -> Iterator[Axes]:
    """Axes to draw on, square or as high as so many rows need; at the end the SVG is written."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        height = _WIDTH if square else _HEIGHT if rows is None else _FRAME + _ROW * rows
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = figure.add_subplot()
        yield axes
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = file.getvalue().replace(_INK, "currentColor")
    write_atomically(path, svg.replace("<defs>", f"{_SCHEMES}<defs>", 1).encode())


def shares(axes: Axes, x: str, y: str) -> None:
    """Both axes from 0 to 1, with what they show."""
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=x, ylabel=y)
    axes.set_aspect("equal")


def short(name: str) -> str:
    """A name that fits into a legend; one that begins with an underscore would be left out of it."""
    shown = name if len(name) <= _MOST_LETTERS else f"{name[: _MOST_LETTERS - 1]}…"
    return f" {shown}" if shown.startswith("_") else shown
