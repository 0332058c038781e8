"""What two versions are compared in, by group: accuracy, the recall of each class, AUC. Pure numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from imil_backend.errors import LearningError
from imil_backend.learning.scoring.metrics import placements

# The robust ones are the same on images whose irrelevant part is another image's; see `robustness.py`.
Metric = Literal["accuracy", "recall", "auc", "robust_accuracy", "robust_recall"]


@dataclass(frozen=True)
class Pairs:
    """The samples that two versions have both predicted, in one order."""

    labels: NDArray[np.int64]  # (samples,)
    groups: NDArray[np.int64]  # (samples,), the number of each one's group
    champion: NDArray[np.float64]  # probabilities (samples, classes)
    candidate: NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """The mean of a difference over some of the samples, as sums by group.

    `unseen` is the number of samples in a group that might have been drawn and was not: bounds reckon with
    one that lost everything, or won everything; see `bounds.py`.
    """

    differences: NDArray[np.float64]  # (groups,)
    sizes: NDArray[np.float64]  # (groups,), samples
    unseen: float = 0.0
    share: float = 1.0  # of the endpoint


@dataclass(frozen=True)
class Endpoint:
    """One thing that a candidate must not be worse in. Its difference is the sum of its parts' means."""

    metric: Metric
    label: int | None  # the class whose groups tell of it; None: all groups do
    champion: float
    candidate: float
    difference: float  # the candidate's value minus the champion's
    groups: int  # that tell of it
    counts_as: float  # so many groups of equal size
    parts: tuple[Part, ...]
    share: float = 1.0  # that this loses if all groups that tell of it lose everything
    counted_twice: float = 0.0  # by the parts


def pair(champion: Mapping[str, Sequence[Any]], candidate: Mapping[str, Sequence[Any]]) -> Pairs:
    """Bring a split of two `predictions.json` together, by key.

    Raises:
        LearningError: the two do not agree on a sample's label, or a probability is no number.
    """
    place = {key: index for index, key in enumerate(candidate["keys"])}
    shared = [(old, place[key]) for old, key in enumerate(champion["keys"]) if key in place]
    for old, new in shared:
        if champion["labels"][old] != candidate["labels"][new]:
            raise LearningError(
                f"Sample {champion['keys'][old]} has one label in one version and another in the other."
            )
    names = np.array([champion["groups"][old] for old, _ in shared], np.str_)
    pairs = Pairs(
        labels=np.array([champion["labels"][old] for old, _ in shared], np.int64),
        groups=np.unique(names, return_inverse=True)[1].astype(np.int64),
        champion=np.array([champion["probabilities"][old] for old, _ in shared], np.float64),
        candidate=np.array([candidate["probabilities"][new] for _, new in shared], np.float64),
    )
    for probabilities in (pairs.champion, pairs.candidate):
        for index in np.flatnonzero(~np.isfinite(probabilities).all(axis=-1)):
            key = champion["keys"][shared[index][0]]
            raise LearningError(
                f"Sample {key} is predicted with probabilities that are no numbers: the training diverged. "
                "Set a lower learning_rate."
            )
    return pairs


def endpoints(pairs: Pairs) -> list[Endpoint]:
    """Accuracy, the recall of each class that occurs, and AUC where there are two of them.

    Args:
        pairs: of at least one sample.
    """
    right = [
        (each.argmax(axis=1) == pairs.labels).astype(np.float64) for each in (pairs.champion, pairs.candidate)
    ]
    accuracy, *recalls = shares_right(right[0], right[1], pairs.labels, pairs.groups, ("accuracy", "recall"))
    return [accuracy, *recalls] if len(recalls) < 2 else [accuracy, *recalls, _auc(pairs, recalls)]


def shares_right(
    champion: NDArray[np.float64],
    candidate: NDArray[np.float64],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    metrics: tuple[Metric, Metric],
) -> list[Endpoint]:
    """The mean share of right answers over all samples, and over those of each class that occurs.

    Args:
        champion: (samples,) how often each is answered rightly, 0..1.
        candidate: likewise.
        labels: (samples,)
        groups: (samples,) the number of each one's group.
        metrics: what the mean over all samples is called, and the mean over a class.
    """
    everything = np.ones(len(labels), bool)
    overall, by_class = metrics
    return [
        _share_right(champion, candidate, groups, everything, overall, None),
        *(
            _share_right(champion, candidate, groups, labels == label, by_class, int(label))
            for label in np.unique(labels)
        ),
    ]


def equal_groups(sizes: NDArray[np.float64]) -> float:
    """How many groups of equal size tell as much as these (Kish 1965, effective sample size)."""
    return float(sizes.sum() ** 2 / (sizes**2).sum()) if sizes.any() else 0.0


def _share_right(
    champion: NDArray[np.float64],
    candidate: NDArray[np.float64],
    groups: NDArray[np.int64],
    asked: NDArray[np.bool_],
    metric: Metric,
    label: int | None,
) -> Endpoint:
    count, before, after = int(asked.sum()), float(champion[asked].sum()), float(candidate[asked].sum())
    part = _part(groups, candidate - champion, asked, 1.0)
    return Endpoint(
        metric=metric,
        label=label,
        champion=before / count,
        candidate=after / count,
        difference=(after - before) / count,
        groups=int((part.sizes > 0).sum()),
        counts_as=equal_groups(part.sizes),
        parts=(replace(part, unseen=part.sizes.sum() / equal_groups(part.sizes)),),
    )


def _auc(pairs: Pairs, recalls: Sequence[Endpoint]) -> Endpoint:
    """By DeLong's components, which are means over the positives and over the negatives (Obuchowski 1997).

    The unseen group is one of the class with the fewest groups, placed wrongly against all other samples.
    """
    rarest = min(recalls, key=lambda recall: recall.counts_as)
    classes = pairs.champion.shape[1]
    asked = [recall.label for recall in recalls] if classes > 2 else [rarest.label]
    share = 1 / len(asked)
    parts: list[Part] = []
    values = np.zeros(2)
    for label in asked:
        positive = pairs.labels == label
        placed = [placements(each[:, label], positive) for each in (pairs.champion, pairs.candidate)]
        values += [share * each[positive].mean() for each in placed]
        own, others = (
            _part(pairs.groups, placed[1] - placed[0], side, share) for side in (positive, ~positive)
        )
        parts += [replace(own, unseen=rarest.parts[0].unseen if label == rarest.label else 0.0), others]
    champion, candidate = (float(value) for value in values)
    return Endpoint(
        metric="auc",
        label=rarest.label,
        champion=champion,
        candidate=candidate,
        difference=candidate - champion,
        groups=rarest.groups,
        counts_as=rarest.counts_as,
        parts=tuple(parts),
        share=share,
        counted_twice=candidate - champion,
    )


def _part(
    groups: NDArray[np.int64], values: NDArray[np.float64], asked: NDArray[np.bool_], share: float
) -> Part:
    count = int(groups.max()) + 1
    own = groups[asked]
    return Part(
        np.bincount(own, weights=values[asked], minlength=count).astype(np.float64),
        np.bincount(own, minlength=count).astype(np.float64),
        share=share,
    )
