"""Which training samples a clinician is asked about, in which order. Pure numpy, on mining's records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Record = Mapping[str, Any]  # of `mining.json`, see `mining_records`

_FEWEST_EPOCHS = 2  # later epochs that must have been recorded before a label is doubted
_OUTLIER = 1.5  # interquartile ranges below the first quartile (Tukey 1977)


def budget_of(training_samples: int, share: float = 0.04) -> int:
    """How many samples a round may ask about: a share of the training split, at least one."""
    return max(1, round(training_samples * share))


def rank_mispredictions(
    records: Sequence[Record],
    *,
    budget: int,
    ranking: str = "confidence",
    exclude: Collection[str] = (),
    per_class: bool = False,
    fill_with_uncertain: bool = False,
) -> list[Record]:
    """The most instructive wrong samples first, at most `budget`.

    Args:
        records: `mining.json`.
        budget: Most samples to return.
        ranking: Which are the most instructive: a name in RANKINGS.
        exclude: Keys never to return, such as samples that are blacked out already.
        per_class: Share the budget evenly between the classes, as far as each has wrong samples.
        fill_with_uncertain: When fewer are wrong than the budget, add the right ones of lowest margin.
    """
    asked = [record for record in records if record["key"] not in exclude]
    wrong = sorted((record for record in asked if record["wrong"]), key=RANKINGS[ranking])
    if per_class:
        wrong = _take_turns(wrong)
    chosen = wrong[:budget]
    if fill_with_uncertain and len(chosen) < budget:
        right = sorted((record for record in asked if not record["wrong"]), key=RANKINGS[ranking])
        chosen += right[: budget - len(chosen)]
    return chosen


def likely_label_errors(
    wrong: NDArray[np.bool_], mean_margins: NDArray[np.float32], labels: NDArray[np.int64], epochs: int
) -> NDArray[np.bool_]:
    """Wrong samples that stayed wrong while their class was learned.

    Their mean margin over the later epochs is negative, and an outlier (Tukey's fence) in their class.

    Args:
        wrong: (n,) mispredicted when mined.
        mean_margins: (n,) over the epochs recorded since.
        labels: (n,) class indices.
        epochs: How many epochs were recorded; with fewer than two no label is doubted.
    """
    doubted = np.zeros(len(labels), bool)
    if epochs < _FEWEST_EPOCHS:
        return doubted
    for label in np.unique(labels):
        own = labels == label
        first, third = np.quantile(mean_margins[own], [0.25, 0.75])
        fence = min(first - _OUTLIER * (third - first), 0)
        doubted[own] = wrong[own] & (mean_margins[own] < fence)
    return doubted


def _by_confidence(record: Record) -> tuple[bool, float, str]:
    """Confidently wrong first.

    A sample that the network is confidently wrong about was decided by something other than the finding:
    what a blackout can take away. So the lowest margin comes first. A wrong label looks the same at first,
    but stays wrong while the network learns the rest (Pleiss et al. 2020; "hard to learn" in Swayamdipta
    et al. 2020): no blackout helps there, so likely label errors come after the other wrong ones. Equal
    margins are ordered by key.
    """
    return record["likely_label_error"], record["margin"], record["key"]


# By name, what samples are sorted by; it ends with the key, so that no order is left to chance.
RANKINGS: dict[str, Callable[[Record], tuple[Any, ...]]] = {"confidence": _by_confidence}


def _take_turns(records: list[Record]) -> list[Record]:
    """Each class's first, then each class's second, and so on; within a turn the order is kept."""
    seen: Counter[int] = Counter()
    turns = []
    for place, record in enumerate(records):
        turns.append((seen[record["label"]], place))
        seen[record["label"]] += 1
    return [records[place] for _, place in sorted(turns)]
