"""The reliability curve of a split."""

from __future__ import annotations

from pathlib import Path

from imil_backend.learning.evaluation.evaluation import Evaluation
from imil_backend.learning.plots.themed import COLOURS, Plot, axes_of


def draw_reliability(directory: Path, split: str, evaluation: Evaluation) -> Plot:
    """How often a version is right by how sure it is; above, how many samples each point has."""
    bins, file = evaluation.reliability, f"reliability-{split}.svg"
    said = [each.probability for each in bins]
    with axes_of(directory / file, square=True) as axes:
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.1))
        axes.set(xlabel="probability of the predicted class (mean)", ylabel="share that is right")
        axes.plot([0, 1], [0, 1], color=COLOURS[1], linestyle="--", label="as often as it says")
        apart = [
            [each.accuracy - each.lower for each in bins],
            [each.upper - each.accuracy for each in bins],
        ]
        right = [each.accuracy for each in bins]
        axes.errorbar(said, right, apart, color=COLOURS[0], marker="o", capsize=3, label="this version")
        for each in bins:
            axes.annotate(
                f"{each.samples}", (each.probability, each.upper), (0, 4), textcoords="offset points",
                ha="center", fontsize=8,
            )  # fmt: skip
        axes.legend(loc="lower right")
    listed = "; ".join(
        f"of {each.samples} samples with a mean probability of {each.probability:.2f} a share of "
        f"{each.accuracy:.2f} is right ({each.lower:.2f} to {each.upper:.2f})"
        for each in bins
    )
    error = f"Expected calibration error {evaluation.calibration_error:.3f}, {evaluation.samples} samples"
    return Plot(file, f"Reliability, {split}", f"{error}: {listed}. Bars are 95% intervals by group.")
