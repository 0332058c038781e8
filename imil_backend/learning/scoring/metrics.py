"""Metrics from probabilities. Pure numpy: exact however many processes computed the probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Metrics = dict[str, float | None]  # None where a metric is not defined
_SMALLEST_PROBABILITY = 1e-12


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


def compute_metrics(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> Metrics:
    """Accuracy, balanced accuracy, AUC and loss of probabilities (n, classes).

    Balanced accuracy is the mean of the recalls of the classes that occur. AUC is the area under the ROC
    curve; with more than two classes the mean of one class against the rest, over classes that occur; None
    if only one does. Loss is the mean cross entropy. All are None without samples.
    """
    if len(labels) == 0:
        return {"accuracy": None, "balanced_accuracy": None, "auc": None, "loss": None}
    correct = probabilities.argmax(axis=1) == labels
    present = np.unique(labels)
    recalls = [correct[labels == label].mean() for label in present]
    own = np.take_along_axis(probabilities, labels[:, None], axis=1)
    return {
        "accuracy": float(correct.mean()),
        "balanced_accuracy": float(np.mean(recalls)),
        "auc": _macro_auc(probabilities, labels, present),
        "loss": float(-np.log(np.maximum(own, _SMALLEST_PROBABILITY)).mean()),
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


def _macro_auc(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], present: NDArray[np.int64]
) -> float | None:
    if len(present) < 2:
        return None
    asked = present if probabilities.shape[1] > 2 else present[1:]  # of two classes either gives the same
    return float(np.mean([_auc(probabilities[:, label], labels == label) for label in asked]))


def _auc(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """The chance that a positive scores above a negative, ties counting half (Mann and Whitney's U)."""
    return float(placements(scores, positive)[positive].mean())


def _midranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1; equal scores share the mean of theirs."""
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[places])
