"""Metrics from probabilities. Pure numpy: exact however many processes computed the probabilities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Metrics = dict[str, float | None]  # None where a metric is not defined
Probabilities = NDArray[np.float64]  # (samples, classes)
Labels = NDArray[np.int64]  # (samples,)
_SMALLEST_PROBABILITY = 1e-12


@dataclass(frozen=True)
class Metric:
    """Something that is measured of predictions.

    Attributes:
        title: for people.
        value: of at least one sample; None where it is not defined.
        listed: where versions are listed; without, in the report alone.
    """

    title: str
    value: Callable[[Probabilities, Labels], float | None]
    listed: bool = False


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities (n, classes) of logits (n, classes)."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def margins(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """The label's logit minus the highest other one, (n,); negative where the network is wrong.

    Pleiss et al. (2020), "Identifying Mislabeled Data using the Area Under the Margin Ranking".
    """
    own = np.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    others = logits.copy()
    np.put_along_axis(others, labels[:, None], -np.inf, axis=1)
    return np.asarray(own - others.max(axis=1), np.float32)


def compute_metrics(probabilities: Probabilities, labels: Labels) -> Metrics:
    """The value of each of METRICS; all are None without samples."""
    return {
        name: metric.value(probabilities, labels) if len(labels) else None for name, metric in METRICS.items()
    }


def placements(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Each sample's share of the other side that it is placed rightly against, (n,); ties count half.

    For a positive the share of the negatives that score below it, for a negative the share of the positives
    that score above it. The mean of either is the AUC (DeLong et al. 1988, "structural components"; by
    midranks as in Sun and Xu 2014).
    """
    ranks = _midranks(scores)
    result = np.empty(len(scores))
    for side in (True, False):
        own = positive == side
        below = (ranks[own] - _midranks(scores[own])) / (~own).sum()
        result[own] = below if side else 1 - below
    return result


def _accuracy(probabilities: Probabilities, labels: Labels) -> float:
    return float((probabilities.argmax(axis=1) == labels).mean())


def _balanced_accuracy(probabilities: Probabilities, labels: Labels) -> float:
    """The mean of the recalls of the classes that occur."""
    correct = probabilities.argmax(axis=1) == labels
    return float(np.mean([correct[labels == label].mean() for label in np.unique(labels)]))


def _macro_auc(probabilities: Probabilities, labels: Labels) -> float | None:
    """The area under the ROC curve; None if one class alone occurs.

    With more than two classes the mean of one class against the rest, over classes that occur.
    """
    present = np.unique(labels)
    if len(present) < 2:
        return None
    asked = present if probabilities.shape[1] > 2 else present[1:]  # of two classes either gives the same
    return float(np.mean([_auc(probabilities[:, label], labels == label) for label in asked]))


def _loss(probabilities: Probabilities, labels: Labels) -> float:
    """The mean cross entropy."""
    own = np.take_along_axis(probabilities, labels[:, None], axis=1)
    return float(-np.log(np.maximum(own, _SMALLEST_PROBABILITY)).mean())


# What is measured on each split of a version, by its name in `result.json`.
METRICS: dict[str, Metric] = {
    "accuracy": Metric("accuracy", _accuracy, listed=True),
    "balanced_accuracy": Metric("balanced accuracy", _balanced_accuracy, listed=True),
    "auc": Metric("AUC", _macro_auc, listed=True),
    "loss": Metric("loss", _loss),
}


def _auc(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """The chance that a positive scores above a negative, ties counting half (Mann and Whitney's U)."""
    return float(placements(scores, positive)[positive].mean())


def _midranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1; equal scores share the mean of theirs."""
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[places])
