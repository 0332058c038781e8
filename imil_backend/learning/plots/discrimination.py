"""ROC and precision-recall curves of a split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from imil_backend.learning.evaluation.curves import Curve, precision_recall_curve, roc_curve
from imil_backend.learning.evaluation.evaluation import Predicted
from imil_backend.learning.plots.themed import COLOURS, LINES, Plot, axes_of, short

_BAND = "Bands hold each point of a curve with 95% confidence; groups are drawn anew."


@dataclass(frozen=True)
class _Kind:
    """A kind of curve, each of one class against the others."""

    file: str
    title: str
    x: str
    y: str
    area: str
    legend: Literal["lower left", "lower right"]
    find: Callable[[NDArray[np.float64], NDArray[np.bool_], Sequence[str]], Curve]


_KINDS = (
    _Kind("roc", "ROC", "false positive rate", "true positive rate", "AUC", "lower right", roc_curve),
    _Kind(
        "precision-recall",
        "Precision and recall",
        "recall",
        "precision",
        "average precision",
        "lower left",
        precision_recall_curve,
    ),
)


def draw_discrimination(directory: Path, split: str, found: Predicted, classes: Sequence[str]) -> list[Plot]:
    """Both kinds of curves, of each class against the others.

    Of many classes the most frequent ones; nothing where one class alone occurs.
    """
    asked = _asked(found)
    return [_draw(directory, split, kind, found, classes, asked) for kind in _KINDS if asked]


def _asked(found: Predicted) -> list[int]:
    counts = np.bincount(found.labels, minlength=found.probabilities.shape[1])
    if (counts > 0).sum() < 2:
        return []
    most = np.argsort(-counts, kind="stable")[: len(COLOURS)]
    return sorted(int(label) for label in most if counts[label])


def _draw(
    directory: Path, split: str, kind: _Kind, found: Predicted, classes: Sequence[str], asked: Sequence[int]
) -> Plot:
    curves = {
        label: kind.find(found.probabilities[:, label], found.labels == label, found.groups)
        for label in asked
    }
    file = f"{kind.file}-{split}.svg"
    with axes_of(directory / file, square=True) as axes:
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=kind.x, ylabel=kind.y)
        for place, (label, curve) in enumerate(curves.items()):
            axes.fill_between(curve.x, curve.lower, curve.upper, color=COLOURS[place], alpha=0.2, linewidth=0)
            axes.plot(
                curve.x,
                curve.y,
                color=COLOURS[place],
                linestyle=LINES[place % len(LINES)],
                label=f"{short(classes[label])}: {kind.area} {curve.area:.3f}",
            )
        axes.legend(loc=kind.legend)
    areas = "; ".join(f"{classes[label]}: {kind.area} {curve.area:.3f}" for label, curve in curves.items())
    samples = f"{len(found.labels)} {split} samples of {len(set(found.groups))} groups"
    return Plot(
        file, f"{kind.title}, {split}", f"{kind.y.capitalize()} by {kind.x} on {samples}. {areas}. {_BAND}"
    )
