"""Which training samples a clinician is asked about, in which order. Pure numpy, on mining's records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imil_backend.errors import LearningError

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
    ask: str = "mispredicted",
    ranking: str = "confidence",
    exclude: Collection[str] = (),
    per_class: bool = False,
    fill_with_uncertain: bool = False,
) -> list[Record]:
    """The most instructive samples first, at most `budget`: wrong ones, unless `ask` says otherwise.

    Args:
        records: `mining.json`.
        budget: Most samples to return.
        ask: Which are asked: a name in ASKED.
        ranking: Which of them are the most instructive: a name in RANKINGS.
        exclude: Keys never to return, such as samples that were painted already.
        per_class: Share the budget evenly between the classes, as far as each has samples to ask.
        fill_with_uncertain: When fewer are asked than the budget, add the others, those of the lowest margin
            first.

    Raises:
        LearningError: the records do not hold what `ask` needs; earlier releases did not write it.
    """
    left = sorted((record for record in records if record["key"] not in exclude), key=RANKINGS[ranking])
    try:
        asked = ASKED[ask](left)
    except KeyError as error:
        raise LearningError(
            f"--ask {ask} needs values that this version's training did not record, because it is "
            "from an earlier release. Use --ask mispredicted in this round."
        ) from error
    chosen = (_take_turns(asked) if per_class else asked)[:budget]
    if fill_with_uncertain:
        keys = {record["key"] for record in chosen}
        chosen += [record for record in left if record["key"] not in keys][: budget - len(chosen)]
    return chosen


def _mispredicted(records: Sequence[Record]) -> list[Record]:
    """What the network got wrong (Rao et al. 2024)."""
    return [record for record in records if record["wrong"]]


def _mixed(records: Sequence[Record]) -> list[Record]:
    """In turns one that is wrong, and one that is right but for another image's surroundings.

    The latter as varied as can be, so that few show every kind of marker.
    """
    wrong = _mispredicted(records)
    fooled = sorted(
        (record for record in records if record["variety"] is not None and not record["wrong"]),
        key=lambda record: record["variety"],
    )
    turns = min(len(wrong), len(fooled))
    paired = [record for pair in zip(wrong, fooled, strict=False) for record in pair]
    return [*paired, *wrong[turns:], *fooled[turns:]]


def _disagreement(records: Sequence[Record]) -> list[Record]:
    """Those on which the epochs of the training disagreed most, wrong or not ("ambiguous").

    Swayamdipta et al. 2020, "Dataset Cartography". Likely label errors come last.
    """
    return sorted(records, key=lambda record: (record["likely_label_error"], -record["margin_deviation"]))


# By name, which records are asked, and in which order; they come in the order of the ranking.
ASKED: dict[str, Callable[[Sequence[Record]], list[Record]]] = {
    "mispredicted": _mispredicted,
    "mixed": _mixed,
    "disagreement": _disagreement,
}


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
