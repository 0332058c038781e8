"""One-sided bounds of differences between two versions, by groups. Pure numpy.

The samples of a group (patient) are alike, so it is groups that are drawn, and all differences are taken of
the same draws: a paired bootstrap, with the smooth weights of the Bayesian one (Efron and Tibshirani 1993;
Rubin 1981). A bootstrap alone says nothing about what no group has shown: where none of 30 got worse, none of
its draws does. So each draw has one more group that nobody has seen, which lost everything for the lower
bound and won everything for the upper one (Gaffke 2005; Learned-Miller and Thomas 2019). With equal groups
that only lose this is the exact bound of Clopper and Pearson (1934); and whether the difference is below 0 is
then asked as the exact sign test (McNemar) asks it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imil_backend.learning.scoring.endpoints import Endpoint, equal_groups

_DRAWS_AT_ONCE = 100  # of all groups' weights; memory stays at some megabytes


@dataclass(frozen=True)
class Bounds:
    """What the draws say of one endpoint's difference."""

    lower: float  # the difference is above this with the given confidence
    upper: float  # and below this
    p: float  # of 'it is not below 0'
    p_gain: float  # of 'it is not above 0'


def bounds_of(
    endpoints: Sequence[Endpoint], *, seed: int = 0, resamples: int = 2000, confidence: float = 0.95
) -> list[Bounds]:
    """Bounds of each endpoint's difference, in order.

    Args:
        endpoints: of the same groups.
        seed: of the draws.
        resamples: number of draws.
        confidence: of each one-sided bound.
    """
    draws = _draw(endpoints, seed, resamples)
    return [
        _bounds(endpoint, lost, won, confidence)
        for endpoint, (lost, won) in zip(endpoints, draws, strict=True)
    ]


def bounds_of_mean(
    values: NDArray[np.float64],
    groups: Sequence[str],
    *,
    least: float = 0.0,
    most: float = 1.0,
    seed: int = 0,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Lower and upper bound of a mean over samples, each of which holds with the given confidence.

    Args:
        values: (samples,) between `least` and `most`, which is what the unseen group has; one at least.
        groups: of the samples.
        least: That a value can be.
        most: That a value can be.
        seed: Of the draws.
        resamples: Number of draws.
        confidence: Of each bound.
    """
    names, own = np.unique(np.asarray(groups, np.str_), return_inverse=True)
    sums = np.bincount(own, weights=values, minlength=len(names))
    sizes = np.bincount(own, minlength=len(names)).astype(np.float64)
    unseen = sizes.sum() / equal_groups(sizes)
    low, high = np.empty(resamples), np.empty(resamples)
    for rows, weights in group_weights(len(names), seed, resamples):
        seen, unseen_group = weights[:, :-1] @ sums, weights[:, -1] * unseen
        drawn = weights[:, :-1] @ sizes + unseen_group
        low[rows] = (seen + unseen_group * least) / drawn
        high[rows] = (seen + unseen_group * most) / drawn
    return float(np.quantile(low, 1 - confidence)), float(np.quantile(high, confidence))


def groups_needed(margin: float, confidence: float = 0.95) -> int:
    """Fewest groups from which a loss of `margin` can be excluded.

    If a share `margin` of all groups got worse, n groups would show none of it with a chance of
    (1 - margin)^n; that must not exceed 1 - confidence.
    """
    if margin >= 1:
        return 1
    return math.ceil(math.log(1 - confidence) / math.log(1 - margin))


def sign_test(worse: int, better: int) -> float:
    """The chance that of so many changed groups as many got worse, if either is as likely; one-sided."""
    changed = worse + better
    return min(1.0, sum(_chance(changed, count) for count in range(worse, changed + 1)))


def corrected(chances: Sequence[float]) -> list[float]:
    """Chances of error after Holm (1979): any one of those below a level is wrong at that level at most."""
    result = list(chances)
    largest = 0.0
    for rank, index in enumerate(np.argsort(chances)):
        largest = max(largest, min(1.0, chances[index] * (len(chances) - rank)))
        result[index] = largest
    return result


def _chance(changed: int, count: int) -> float:
    ways = math.lgamma(changed + 1) - math.lgamma(count + 1) - math.lgamma(changed - count + 1)
    return math.exp(ways - changed * math.log(2))


def _bounds(
    endpoint: Endpoint, lost: NDArray[np.float64], won: NDArray[np.float64], confidence: float
) -> Bounds:
    lower, upper = float(np.quantile(lost, 1 - confidence)), float(np.quantile(won, confidence))
    if all((part.differences >= 0).all() for part in endpoint.parts):
        # What the draws come to, without their chance: `groups_needed` and the verdict must agree.
        nothing_seen = -endpoint.share * (1 - (1 - confidence) ** (1 / endpoint.counts_as))
        lower = max(lower, nothing_seen) if endpoint.difference > 0 else nothing_seen
    return Bounds(
        lower=min(lower, endpoint.difference),
        upper=max(upper, endpoint.difference),
        p=float(((won >= 0).sum() + 1) / (len(won) + 1)),
        p_gain=float(((lost <= 0).sum() + 1) / (len(lost) + 1)),
    )


def _draw(
    endpoints: Sequence[Endpoint], seed: int, resamples: int
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Each endpoint's difference in each draw, where the unseen group lost and where it won."""
    parts = [part for endpoint in endpoints for part in endpoint.parts]
    differences = np.stack([part.differences for part in parts], axis=1)
    sizes = np.stack([part.sizes for part in parts], axis=1)
    unseen = np.array([part.unseen for part in parts])
    share = np.array([part.share for part in parts])
    lost, won = np.empty((resamples, len(parts))), np.empty((resamples, len(parts)))
    for rows, weights in group_weights(len(sizes), seed, resamples):
        unseen_group = weights[:, -1:] * unseen
        changed, drawn = weights[:, :-1] @ differences, weights[:, :-1] @ sizes + unseen_group
        lost[rows] = share * (changed - unseen_group) / drawn
        won[rows] = share * (changed + unseen_group) / drawn
    ends = np.cumsum([len(endpoint.parts) for endpoint in endpoints])[:-1]
    return [
        (below.sum(axis=1) - endpoint.counted_twice, above.sum(axis=1) - endpoint.counted_twice)
        for endpoint, below, above in zip(
            endpoints, np.split(lost, ends, axis=1), np.split(won, ends, axis=1), strict=True
        )
    ]


def group_weights(groups: int, seed: int, resamples: int) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Weights (draws, groups + 1) of the groups and of the unseen one, some draws at a time."""
    random = np.random.default_rng(seed)
    for start in range(0, resamples, _DRAWS_AT_ONCE):
        count = min(_DRAWS_AT_ONCE, resamples - start)
        yield slice(start, start + count), random.standard_exponential((count, groups + 1))
