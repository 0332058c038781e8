"""Tests over seeds, and what so few seeds can show at all.

Seeds are independent trainings: where arms are alike, each seed's difference is as likely to be above zero
as below. Of S seeds the smallest two-sided p of that test is 2 / 2**S: with five it is 0.06, whatever they
show. No p-value is given where so few seeds cannot make one that is below the level after its correction.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import numpy as np

LEVEL = 0.05
_EXACT = 13  # seeds, of which all signs are tried; of more, so many draws of signs


def sign_flip(differences: Sequence[float]) -> float:
    """The two-sided p of 'the differences (seeds,) are symmetric around zero', by flipping their signs.

    The statistic is the mean. Exact up to 13 seeds (Fisher 1935, section 21); with more, 8,192 random flips.
    """
    from scipy import stats

    if len(differences) < 2 or not np.any(differences):
        return 1.0
    result = stats.permutation_test(
        (np.asarray(differences, np.float64),),
        lambda values, axis: values.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**_EXACT,
        rng=np.random.default_rng(0),
    )
    return float(result.pvalue)


def smallest_p(seeds: int) -> float:
    """The smallest two-sided p that flipping the signs of so many differences can give."""
    return float(2.0 ** (1 - seeds))


def seeds_needed(comparisons: int = 1) -> int:
    """Fewest seeds that can show a difference at all, in one of so many comparisons after Holm."""
    return next(seeds for seeds in count(1) if comparisons * smallest_p(seeds) < LEVEL)
