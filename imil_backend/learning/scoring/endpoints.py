"""What two versions are compared in, by group; QUANTITIES and EXCHANGED list it. Pure numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imil_backend.errors import LearningError
from imil_backend.learning.scoring.metrics import placements


@dataclass(frozen=True)
class Pairs:
    """The samples that two versions have both predicted, in one order."""

    labels: NDArray[np.int64]  # (samples,)
    groups: NDArray[np.int64]  # (samples,), the number of each one's group
    # Probabilities (samples, classes); in the shortcut test the shares (samples,) of draws answered rightly.
    champion: NDArray[np.float64]
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
class Quantity:
    """A quantity that two versions are compared in.

    Attributes:
        title: for people.
        endpoints: of at least one pair of samples; none where it is not defined.
        margin: how much of it a candidate may lose, if nothing else is said.
        by_class: whether it has an endpoint for each class that occurs.
        of_rarest: whether the class with the fewest groups decides what can be shown of it; else all groups.
        share: that it loses if all groups that tell of it lose everything, by the number of classes.
    """

    title: str
    endpoints: Callable[[Pairs], list[Endpoint]]
    margin: float
    by_class: bool = False
    of_rarest: bool = False
    share: Callable[[int], float] = lambda _classes: 1.0

    def of(self, label: str | None) -> str:
        """Its title, with the class that it is of."""
        return f"{self.title} of {label}" if self.by_class else self.title


@dataclass(frozen=True)
class Endpoint:
    """One thing that a candidate must not be worse in. Its difference is the sum of its parts' means."""

    metric: str  # a name in QUANTITIES or EXCHANGED
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
            raise LearningError(f"Sample {champion['keys'][old]} has different labels in the two versions.")
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
                f"Sample {key} has probabilities that are not numbers: the training diverged. "
                "Set a lower learning_rate."
            )
    return pairs


def endpoints(pairs: Pairs, quantities: Mapping[str, Quantity] | None = None) -> list[Endpoint]:
    """The endpoints of some quantities.

    Args:
        pairs: of at least one sample.
        quantities: QUANTITIES if absent.
    """
    asked = QUANTITIES if quantities is None else quantities
    return [endpoint for quantity in asked.values() for endpoint in quantity.endpoints(pairs)]


def quantity_of(metric: str) -> Quantity:
    """The quantity of this name."""
    return QUANTITIES[metric] if metric in QUANTITIES else EXCHANGED[metric]


def equal_groups(sizes: NDArray[np.float64]) -> float:
    """How many groups of equal size tell as much as these (Kish 1965, effective sample size)."""
    return float(sizes.sum() ** 2 / (sizes**2).sum()) if sizes.any() else 0.0


def mean_endpoint(
    pairs: Pairs,
    values: Sequence[NDArray[np.float64]],
    asked: NDArray[np.bool_],
    metric: str,
    label: int | None = None,
) -> Endpoint:
    """The endpoint of a mean.

    Args:
        pairs: of the samples.
        values: (samples,) in 0..1, of the champion and of the candidate; more is better.
        asked: (samples,) whether a sample counts.
        metric: name of the quantity.
        label: the class whose groups tell of it; None: all groups do.
    """
    champion, candidate = (float(each[asked].sum()) for each in values)
    count = int(asked.sum())
    part = _part(pairs, values[1] - values[0], asked, 1.0)
    return Endpoint(
        metric=metric,
        label=label,
        champion=champion / count,
        candidate=candidate / count,
        difference=(candidate - champion) / count,
        groups=int((part.sizes > 0).sum()),
        counts_as=equal_groups(part.sizes),
        parts=(replace(part, unseen=part.sizes.sum() / equal_groups(part.sizes)),),
    )


def _right(pairs: Pairs) -> list[NDArray[np.float64]]:
    """(samples,) of champion and candidate: 1 where it is right, 0 where it is wrong; shares as they are."""
    both = (pairs.champion, pairs.candidate)
    return [
        each if each.ndim == 1 else (each.argmax(axis=1) == pairs.labels).astype(np.float64) for each in both
    ]


def _accuracy(pairs: Pairs, metric: str = "accuracy") -> list[Endpoint]:
    return [mean_endpoint(pairs, _right(pairs), np.ones(len(pairs.labels), bool), metric)]


def _recalls(pairs: Pairs, metric: str = "recall") -> list[Endpoint]:
    right = _right(pairs)
    return [
        mean_endpoint(pairs, right, pairs.labels == label, metric, int(label))
        for label in np.unique(pairs.labels)
    ]


def _auc(pairs: Pairs) -> list[Endpoint]:
    """By DeLong's components, which are means over the positives and over the negatives (Obuchowski 1997).

    The unseen group is one of the class with the fewest groups, placed wrongly against all other samples.
    """
    recalls = _recalls(pairs)
    if len(recalls) < 2:
        return []
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
        own, others = (_part(pairs, placed[1] - placed[0], side, share) for side in (positive, ~positive))
        parts += [replace(own, unseen=rarest.parts[0].unseen if label == rarest.label else 0.0), others]
    champion, candidate = (float(value) for value in values)
    endpoint = Endpoint(
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
    return [endpoint]


def _part(pairs: Pairs, values: NDArray[np.float64], asked: NDArray[np.bool_], share: float) -> Part:
    count = int(pairs.groups.max()) + 1
    own = pairs.groups[asked]
    return Part(
        np.bincount(own, weights=values[asked], minlength=count).astype(np.float64),
        np.bincount(own, minlength=count).astype(np.float64),
        share=share,
    )


# A candidate is promoted if it loses less than the margin in each.
QUANTITIES: dict[str, Quantity] = {
    "accuracy": Quantity("accuracy", _accuracy, margin=0.02),
    "recall": Quantity("recall", _recalls, margin=0.10, by_class=True, of_rarest=True),
    "auc": Quantity(
        "AUC",
        _auc,
        margin=0.05,
        of_rarest=True,
        share=lambda classes: 1.0 if classes == 2 else 1 / classes,
    ),
}

# The same on images whose irrelevant part is another image's; see `robustness.py`.
EXCHANGED: dict[str, Quantity] = {
    "robust_accuracy": Quantity(
        "robust accuracy", partial(_accuracy, metric="robust_accuracy"), QUANTITIES["accuracy"].margin
    ),
    "robust_recall": Quantity(
        "robust recall",
        partial(_recalls, metric="robust_recall"),
        QUANTITIES["recall"].margin,
        by_class=True,
        of_rarest=True,
    ),
}
