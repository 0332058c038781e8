"""How a training went, epoch by epoch, and how a dataset's versions went, round by round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imil_backend.learning.evaluation.estimates import Estimate
from imil_backend.learning.plots.themed import COLOURS, LINES, MARKERS, Plot, axes_of
from imil_backend.learning.scoring.metrics import METRICS

LEARNING_CURVES = "learning-curves.svg"
ROUNDS = "rounds.svg"


@dataclass(frozen=True)
class Measured:
    """What the validation split showed of a round's version."""

    round: int
    estimates: Sequence[Estimate]


def draw_learning_curves(directory: Path, epochs: Sequence[Mapping[str, Any]], best: int) -> Plot:
    """Loss in training and in validation, and accuracy in validation, by epoch.

    Args:
        directory: where to.
        epochs: of `result.json`.
        best: the epoch whose weights were kept.
    """
    numbers = [each["epoch"] for each in epochs]
    lines = {
        "loss, training": [each["train_loss"] for each in epochs],
        "loss, validation": [each["validation"]["loss"] for each in epochs],
        "accuracy, validation": [each["validation"]["accuracy"] for each in epochs],
    }
    with axes_of(directory / LEARNING_CURVES) as axes:
        axes.set(xlabel="epoch", ylabel="loss, accuracy", xticks=_ticks(numbers))
        for place, (name, values) in enumerate(lines.items()):
            axes.plot(
                numbers, values, label=name,
                color=COLOURS[place], linestyle=LINES[place], marker=MARKERS[place], markersize=4,
            )  # fmt: skip
        axes.axvline(best, color=COLOURS[3], linewidth=1, linestyle=":", label="epoch that was kept")
        axes.set_ylim(bottom=0)
        axes.legend()
    told = "; ".join(
        f"{name} {_number(values[0])} in epoch {numbers[0]}, {_number(values[-1])} in epoch {numbers[-1]}"
        for name, values in lines.items()
    )
    return Plot(LEARNING_CURVES, "Learning curves", f"{told}. The weights of epoch {best} were kept.")


def draw_rounds(directory: Path, measured: Sequence[Measured]) -> Plot:
    """Accuracy, balanced accuracy and AUC on the validation split by round, with intervals."""
    with axes_of(directory / ROUNDS) as axes:
        axes.set(
            xlabel="round", ylabel="on the validation split", xticks=_ticks([each.round for each in measured])
        )
        for place, metric in enumerate(_LISTED):
            found = {
                each.round: estimate
                for each in measured
                for estimate in each.estimates
                if estimate.metric == metric
            }
            values = list(found.values())
            axes.errorbar(
                [number + 0.08 * (place - 1) for number in found],  # beside each other
                [each.value for each in values],
                [[each.value - each.lower for each in values], [each.upper - each.value for each in values]],
                color=COLOURS[place], linestyle=LINES[place], marker=MARKERS[place], markersize=4, capsize=3,
                label=METRICS[metric].title,
            )  # fmt: skip
        axes.set_xlim(measured[0].round - 0.5, measured[-1].round + 0.5)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(_LISTED))
    told = "; ".join(
        f"round {each.round}: "
        + ", ".join(_told(estimate) for estimate in each.estimates if estimate.metric in _LISTED)
        for each in measured
    )
    return Plot(
        ROUNDS, "Metrics over rounds", f"On the validation split, with 95% intervals by group. {told}."
    )


_LISTED = [name for name, metric in METRICS.items() if metric.listed]


def _told(estimate: Estimate) -> str:
    title = METRICS[estimate.metric].title
    return f"{title} {estimate.value:.3f} ({estimate.lower:.3f} to {estimate.upper:.3f})"


def _ticks(numbers: Sequence[int]) -> list[int]:
    """Whole numbers, twelve at most."""
    step = 1 + (max(numbers) - min(numbers)) // 12
    return list(range(min(numbers), max(numbers) + 1, step))


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
