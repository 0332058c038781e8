"""Everything that one split shows of a version, as numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imil_backend.learning.evaluation.calibration import Bin, expected_calibration_error, reliability_of
from imil_backend.learning.evaluation.estimates import Estimate, estimates_of
from imil_backend.learning.scoring.metrics import Labels, Probabilities


@dataclass(frozen=True)
class Predicted:
    """A version's predictions on a split, as arrays."""

    probabilities: Probabilities
    labels: Labels
    groups: list[str]


@dataclass(frozen=True)
class Evaluation:
    """What a split shows of a version."""

    samples: int
    groups: int
    estimates: list[Estimate]
    confusion: list[list[int]]  # samples by label (rows) and prediction (columns)
    reliability: list[Bin]
    calibration_error: float  # see `expected_calibration_error`

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Evaluation:
        """What `dataclasses.asdict` has made of one."""
        estimates = [Estimate(**each) for each in raw["estimates"]]
        return cls(
            **{**raw, "estimates": estimates, "reliability": [Bin(**each) for each in raw["reliability"]]}
        )

    def estimate(self, metric: str) -> Estimate | None:
        """The estimate of this metric; of recall that of the first class."""
        return next((each for each in self.estimates if each.metric == metric), None)


def predicted(split: Mapping[str, Sequence[Any]]) -> Predicted | None:
    """A split of `predictions.json`; None where it has no samples."""
    if not split["labels"]:
        return None
    probabilities = np.array(split["probabilities"], np.float64)
    return Predicted(probabilities, np.array(split["labels"], np.int64), list(split["groups"]))


def evaluate(found: Predicted) -> Evaluation:
    """Work out the numbers of a split."""
    probabilities, labels, groups = found.probabilities, found.labels, found.groups
    bins = reliability_of(probabilities, labels, groups)
    return Evaluation(
        samples=len(labels),
        groups=len(set(groups)),
        estimates=estimates_of(probabilities, labels, groups),
        confusion=confusion_matrix(probabilities, labels).tolist(),
        reliability=bins,
        calibration_error=expected_calibration_error(bins),
    )


def confusion_matrix(probabilities: Probabilities, labels: Labels) -> NDArray[np.int64]:
    """Samples (classes, classes) by label and by predicted class."""
    classes = probabilities.shape[1]
    pairs = labels * classes + probabilities.argmax(axis=1)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
