"""Whether a version is right as often as it says: reliability and its mean error. Pure numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imil_backend.learning.evaluation.estimates import CONFIDENCE
from imil_backend.learning.scoring.bounds import bounds_of_mean
from imil_backend.learning.scoring.metrics import Labels, Probabilities

_BINS = 10


@dataclass(frozen=True)
class Bin:
    """The samples whose predicted class has a probability in a range."""

    samples: int
    probability: float  # of the predicted class, the mean
    accuracy: float
    lower: float  # of the accuracy's 95 % interval, by groups
    upper: float


def bins_of(probability: NDArray[np.float64]) -> NDArray[np.int64]:
    """The number of the bin of each probability (samples,)."""
    return np.minimum((probability * _BINS).astype(np.int64), _BINS - 1)


def reliability_of(probabilities: Probabilities, labels: Labels, groups: Sequence[str]) -> list[Bin]:
    """The bins of equal width that have samples, the lowest probability first (Guo et al. 2017)."""
    said = probabilities.max(axis=1)
    right = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    names = np.asarray(groups, np.str_)
    numbers = bins_of(said)
    bins = []
    for number in np.unique(numbers):
        own = numbers == number
        accuracy = float(right[own].mean())
        lower, upper = bounds_of_mean(right[own], names[own].tolist(), confidence=(1 + CONFIDENCE) / 2)
        bins.append(
            Bin(int(own.sum()), float(said[own].mean()), accuracy, min(lower, accuracy), max(upper, accuracy))
        )
    return bins


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """The mean distance of probability and accuracy over the samples, 0..1 (Naeini et al. 2015).

    With few samples in a bin it is too high: chance alone keeps the two apart.
    """
    samples = sum(each.samples for each in bins)
    return sum(each.samples * abs(each.probability - each.accuracy) for each in bins) / samples
