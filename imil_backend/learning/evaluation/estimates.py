"""Metrics of one version with their intervals by groups. Pure numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imil_backend.learning.scoring.bounds import group_weights
from imil_backend.learning.scoring.endpoints import equal_groups
from imil_backend.learning.scoring.metrics import Labels, Probabilities, compute_metrics, placements

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A metric with its 95 % interval, by groups."""

    metric: str  # a name in METRICS, or "recall"
    label: int | None  # the class that it is the recall of
    value: float
    lower: float
    upper: float
    samples: int  # that tell of it
    groups: int


@dataclass(frozen=True)
class _Mean:
    """The mean of values in 0..1 over some of the samples, as sums by group."""

    sums: NDArray[np.float64]  # (groups,)
    sizes: NDArray[np.float64]  # (groups,), samples
    share: float  # of the metric
    unseen: bool  # whether the group that nobody has seen is one of these


def estimates_of(
    probabilities: Probabilities,
    labels: Labels,
    groups: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = 2000,
) -> list[Estimate]:
    """Accuracy, balanced accuracy, AUC where it is defined, and the recall of each class that occurs.

    Each metric is a sum of means over samples: AUC by DeLong's components, which are means over the
    positives and over the negatives. The means are drawn anew as in `bounds.py`: groups with the weights of
    the Bayesian bootstrap, and one more group that nobody has seen, of the rarest class where a metric is of
    classes.

    Args:
        probabilities: (samples, classes).
        labels: (samples,), one at least.
        groups: of the samples.
        seed: of the draws.
        resamples: number of draws.
    """
    names, own = np.unique(np.asarray(groups, np.str_), return_inverse=True)
    right = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    present = [int(label) for label in np.unique(labels)]
    values = compute_metrics(probabilities, labels)

    def mean(of: NDArray[np.float64], asked: NDArray[np.bool_], share: float = 1.0, *, unseen: bool) -> _Mean:
        sums = np.bincount(own[asked], weights=of[asked], minlength=len(names))
        sizes = np.bincount(own[asked], minlength=len(names)).astype(np.float64)
        return _Mean(sums.astype(np.float64), sizes, share, unseen)

    everyone = np.ones(len(labels), bool)
    recalls = {label: mean(right, labels == label, unseen=True) for label in present}
    rarest = min(present, key=lambda label: equal_groups(recalls[label].sizes))
    share = 1 / len(present)
    balanced = [mean(right, labels == label, share, unseen=label == rarest) for label in present]
    asked: list[tuple[str, int | None, float | None, list[_Mean]]] = [
        ("accuracy", None, values["accuracy"], [mean(right, everyone, unseen=True)]),
        ("balanced_accuracy", None, values["balanced_accuracy"], balanced),
        *(("recall", label, float(right[labels == label].mean()), [recalls[label]]) for label in present),
    ]
    if values["auc"] is not None:
        of = present if probabilities.shape[1] > 2 else [rarest]  # of two classes either gives the same
        parts: list[_Mean] = []
        for label in of:
            positive = labels == label
            placed = placements(probabilities[:, label], positive)
            parts.append(mean(placed, positive, 1 / len(of), unseen=label == rarest))
            parts.append(mean(placed, ~positive, 1 / len(of), unseen=False))
        asked.insert(2, ("auc", None, values["auc"], parts))
    known = [
        (metric, label, float(value), means) for metric, label, value, means in asked if value is not None
    ]
    draws = _drawn([means for *_, means in known], len(names), seed, resamples)
    return [_estimate(*each, low, high) for each, (low, high) in zip(known, draws, strict=True)]


def _drawn(
    metrics: Sequence[Sequence[_Mean]], groups: int, seed: int, resamples: int
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Of each metric, (draws,) with the unseen group all wrong, and all right.

    Groups are drawn once for all of them: of 15,000 groups that takes most of the time.
    """
    means = [mean for each in metrics for mean in each]
    sums, sizes = (np.stack([getattr(each, name) for each in means], axis=1) for name in ("sums", "sizes"))
    share = np.array([each.share for each in means])
    unseen = np.array([each.sizes.sum() / equal_groups(each.sizes) * each.unseen for each in means])
    first = np.cumsum([0, *(len(each) for each in metrics)])[:-1]
    low, high = np.empty((resamples, len(metrics))), np.empty((resamples, len(metrics)))
    for rows, weights in group_weights(groups, seed, resamples):
        more = weights[:, -1:] * unseen
        seen, drawn = weights[:, :-1] @ sums, weights[:, :-1] @ sizes + more
        low[rows] = np.add.reduceat(share * seen / drawn, first, axis=1)
        high[rows] = np.add.reduceat(share * (seen + more) / drawn, first, axis=1)
    return list(zip(low.T, high.T, strict=True))


def _estimate(
    metric: str,
    label: int | None,
    value: float,
    means: Sequence[_Mean],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
) -> Estimate:
    # The two sides of an AUC have the same mean: together they count it twice.
    twice = sum(each.share * float(each.sums.sum() / each.sizes.sum()) for each in means) - value
    outside = (1 - CONFIDENCE) / 2
    sizes = np.sum([each.sizes for each in means], axis=0)
    return Estimate(
        metric=metric,
        label=label,
        value=value,
        lower=max(0.0, min(value, float(np.quantile(low, outside)) - twice)),
        upper=min(1.0, max(value, float(np.quantile(high, 1 - outside)) - twice)),
        samples=int(sizes.sum()) if metric != "auc" else int(means[0].sizes.sum() + means[1].sizes.sum()),
        groups=int((sizes > 0).sum()),
    )
