"""ROC and precision-recall curves with bands by groups. Pure numpy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imil_backend.learning.evaluation.estimates import CONFIDENCE
from imil_backend.learning.scoring.bounds import group_weights

_GRID = np.linspace(0, 1, 101, dtype=np.float64)
_RESAMPLES = 400
# Of shares (thresholds,) of the positives and of the negatives at or above each threshold, in falling order
# of thresholds, and of the weights of both: the curve's y on the grid, or the area.
_Read = Callable[[NDArray[np.float64], NDArray[np.float64], float, float], NDArray[np.float64]]


@dataclass(frozen=True)
class Curve:
    """A curve on a grid of x, with the 95 % band of each of its points.

    The band draws groups anew (Bayesian bootstrap); it does not reckon with a group that nobody has seen.
    """

    x: NDArray[np.float64]  # (points,) 0..1, rising
    y: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    area: float  # of the ROC the AUC; of precision and recall the average precision


def roc_curve(scores: NDArray[np.float64], positive: NDArray[np.bool_], groups: Sequence[str]) -> Curve:
    """True positive rate by false positive rate.

    Args:
        scores: (samples,) higher for the positive class.
        positive: (samples,) with at least one of either kind.
        groups: of the samples.
    """
    return _curve(scores, positive, groups, _true_positive_rate, _area_under_roc)


def precision_recall_curve(
    scores: NDArray[np.float64], positive: NDArray[np.bool_], groups: Sequence[str]
) -> Curve:
    """Precision by recall, at the highest threshold with that recall; its area is the average precision."""
    return _curve(scores, positive, groups, _precision, _average_precision)


def _curve(
    scores: NDArray[np.float64],
    positive: NDArray[np.bool_],
    groups: Sequence[str],
    read: _Read,
    area: _Read,
) -> Curve:
    order = np.argsort(-scores, kind="stable")
    is_last = np.append(np.diff(scores[order]) != 0, True)  # of samples with the same score
    names, own = np.unique(np.asarray(groups, np.str_), return_inverse=True)
    positive, own = positive[order], own[order]

    def at(weights: NDArray[np.float64], read: _Read) -> NDArray[np.float64]:
        found = np.cumsum(np.where(positive, weights, 0))[is_last]
        false = np.cumsum(np.where(positive, 0, weights))[is_last]
        return read(found / found[-1], false / false[-1], found[-1], false[-1])

    drawn = np.concatenate(
        [
            [at(each[own], read) for each in weights[:, :-1]]
            for _, weights in group_weights(len(names), 0, _RESAMPLES)
        ]
    )
    outside = (1 - CONFIDENCE) / 2
    lower, upper = np.quantile(drawn, [outside, 1 - outside], axis=0)
    same = np.ones(len(scores))
    y = at(same, read)
    return Curve(_GRID, y, np.minimum(lower, y), np.maximum(upper, y), float(at(same, area)))


def _true_positive_rate(
    found: NDArray[np.float64], false: NDArray[np.float64], _positives: float, _negatives: float
) -> NDArray[np.float64]:
    return np.asarray(np.interp(_GRID, np.append(0, false), np.append(0, found)))


def _area_under_roc(
    found: NDArray[np.float64], false: NDArray[np.float64], _positives: float, _negatives: float
) -> NDArray[np.float64]:
    return np.asarray(np.trapezoid(np.append(0, found), np.append(0, false)))


def _precisions(
    found: NDArray[np.float64], false: NDArray[np.float64], positives: float, negatives: float
) -> NDArray[np.float64]:
    return np.asarray(found * positives / np.maximum(found * positives + false * negatives, 1e-300))


def _precision(
    found: NDArray[np.float64], false: NDArray[np.float64], positives: float, negatives: float
) -> NDArray[np.float64]:
    places = np.searchsorted(found, np.maximum(_GRID, found[0] * 1e-9) - 1e-12)
    return np.asarray(_precisions(found, false, positives, negatives)[np.minimum(places, len(found) - 1)])


def _average_precision(
    found: NDArray[np.float64], false: NDArray[np.float64], positives: float, negatives: float
) -> NDArray[np.float64]:
    steps = np.diff(found, prepend=0)
    return np.asarray((steps * _precisions(found, false, positives, negatives)).sum())
