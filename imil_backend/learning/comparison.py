"""Whether a candidate may take the champion's place: a paired test on the validation split. Without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from imil_backend.errors import LearningError

Verdict = Literal["promote", "reject", "undecided"]


@dataclass(frozen=True)
class Comparison:
    """The candidate's accuracy minus the champion's, with one-sided bounds, and what follows from them."""

    verdict: Verdict
    difference: float
    lower: float  # the difference is above this with the given confidence
    upper: float  # and below this
    groups: int
    samples: int
    margin: float  # how much worse a candidate may be, in accuracy
    reason: str


def compare(
    champion: Mapping[str, Sequence[Any]],
    candidate: Mapping[str, Sequence[Any]],
    *,
    margin: float = 0.02,
    seed: int = 0,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Comparison:
    """Compare two versions on the samples that both have predicted.

    The samples of a group (patient) are alike, so groups are drawn, with replacement, and both versions are
    measured on the same draw (paired bootstrap, Efron and Tibshirani 1993). Promoted is a candidate that is
    not worse by `margin` or more (non-inferiority); rejected one that is worse than the champion; and where
    the data show neither, the comparison is undecided. A resampled bound says nothing about what no group
    has shown, so too few groups are undecided as well, see `groups_needed`.

    Args:
        champion: A split of `predictions.json`: keys, groups, labels, probabilities, in one order.
        candidate: The same split, predicted by the other version.
        margin: Largest loss of accuracy that is put up with, above 0.
        seed: Of the draws.
        resamples: Number of draws.
        confidence: Of each one-sided bound.

    Raises:
        LearningError: the two do not agree on a sample's label.
    """
    better, groups = _paired(champion, candidate)
    if len(better) == 0:
        return Comparison("undecided", 0.0, -1.0, 1.0, 0, 0, margin, "The two share no samples.")
    names, members = np.unique(groups, return_inverse=True)
    differences = np.bincount(members, weights=better).astype(np.float64)
    sizes = np.bincount(members).astype(np.int64)
    draws = _bootstrap(differences, sizes, seed, resamples)
    lower, upper = (float(value) for value in np.quantile(draws, [1 - confidence, confidence]))
    verdict, reason = _judge(lower, upper, len(names), margin, confidence)
    return Comparison(verdict, float(better.mean()), lower, upper, len(names), len(better), margin, reason)


def groups_needed(margin: float, confidence: float = 0.95) -> int:
    """Fewest groups from which a loss of `margin` can be excluded.

    If a share `margin` of all groups got worse, n groups would show none of it with a chance of
    (1 - margin)^n; that must not exceed 1 - confidence.
    """
    return math.ceil(math.log(1 - confidence) / math.log(1 - margin))


def _paired(
    champion: Mapping[str, Sequence[Any]], candidate: Mapping[str, Sequence[Any]]
) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
    """For each shared sample +1 (only the candidate is right), 0 or -1; and the samples' groups."""
    place = {key: index for index, key in enumerate(candidate["keys"])}
    shared = [(old, place[key]) for old, key in enumerate(champion["keys"]) if key in place]
    for old, new in shared:
        if champion["labels"][old] != candidate["labels"][new]:
            raise LearningError(
                f"Sample {champion['keys'][old]} has one label in one version and another in the other."
            )
    olds, news = [old for old, _ in shared], [new for _, new in shared]
    better = _correct(candidate, news).astype(np.int64) - _correct(champion, olds)
    return better, np.array([champion["groups"][old] for old in olds], np.str_)


def _correct(predictions: Mapping[str, Sequence[Any]], indices: list[int]) -> NDArray[np.bool_]:
    pairs = ((predictions["probabilities"][index], predictions["labels"][index]) for index in indices)
    return np.array([np.argmax(probabilities) == label for probabilities, label in pairs], bool)


def _bootstrap(
    differences: NDArray[np.float64], sizes: NDArray[np.int64], seed: int, resamples: int
) -> NDArray[np.float64]:
    """The difference in accuracy in each of `resamples` draws of groups."""
    random = np.random.default_rng(seed)
    count = len(sizes)
    result = np.empty(resamples)
    for index in range(resamples):
        drawn = random.integers(0, count, count)
        result[index] = differences[drawn].sum() / sizes[drawn].sum()
    return result


def _judge(lower: float, upper: float, groups: int, margin: float, confidence: float) -> tuple[Verdict, str]:
    needed = groups_needed(margin, confidence)
    if lower <= -margin and upper < 0:
        return "reject", f"The candidate is worse: by {-upper:.3f} to {-lower:.3f} in accuracy."
    if groups < needed:
        return "undecided", (
            f"The validation split has {groups} groups; a loss of {margin:.3f} can be excluded from "
            f"{needed} on. Use a larger validation split, or allow a larger margin."
        )
    if lower > -margin:
        return (
            "promote",
            f"The candidate is not worse by {margin:.3f} or more; at most by {max(-lower, 0):.3f}.",
        )
    return "undecided", (
        f"The difference in accuracy lies between {lower:+.3f} and {upper:+.3f}: a loss of {margin:.3f} is "
        "neither shown nor excluded."
    )
