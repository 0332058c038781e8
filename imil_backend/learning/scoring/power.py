"""What a validation split can show at all, told before anybody paints. Pure numpy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from imil_backend.learning.scoring.bounds import groups_needed
from imil_backend.learning.scoring.endpoints import QUANTITIES, Endpoint, equal_groups, quantity_of


@dataclass(frozen=True)
class Margins:
    """How much worse a candidate may be: the largest losses that are put up with, each above 0."""

    chosen: Mapping[str, float] = field(default_factory=dict)  # by quantity; others have their own

    def of(self, metric: str) -> float:
        """The margin of a quantity."""
        return self.chosen.get(metric, quantity_of(metric).margin)


@dataclass(frozen=True)
class Power:
    """Whether a loss by the margin can be excluded, if no group gets worse."""

    metric: str  # a name in QUANTITIES or EXCHANGED
    label: str | None  # the class whose groups tell of it; None: all groups do
    margin: float
    groups: int
    counts_as: int  # so many groups of equal size
    needed: int

    @property
    def enough(self) -> bool:
        """Whether it can."""
        return self.counts_as >= self.needed

    def __str__(self) -> str:
        groups = f"{self.groups} group{'' if self.groups == 1 else 's'}"
        if self.label:
            groups += f" with {self.label}"
        if self.counts_as < self.groups:
            groups += f" of unlike sizes, which count as {self.counts_as},"
        quantity = quantity_of(self.metric)
        loss = f"a loss of {self.margin:.3f} in {'its ' if quantity.by_class else ''}{quantity.title}"
        return (
            f"{groups} can exclude {loss}"
            if self.enough
            else f"{groups} cannot exclude {loss}; {self.needed} could"
        )


def power_of(
    labels: Sequence[str],
    groups: Sequence[str],
    classes: Sequence[str],
    margins: Margins,
    confidence: float = 0.95,
) -> list[Power]:
    """What can be shown of each quantity, of some by the class with the fewest groups alone.

    Args:
        labels: of the validation split's samples.
        groups: of the same samples.
        classes: that the network tells apart, whether they occur or not.
        margins: that a candidate may lose.
        confidence: of what is shown.
    """
    sizes = {name: Counter[str]() for name in classes}
    for label, group in zip(labels, groups, strict=True):
        sizes[label][group] += 1
    rarest = min(classes, key=lambda name: _equal(sizes[name]))
    everything = Counter(groups)
    powers = []
    for metric, quantity in QUANTITIES.items():
        told_by = rarest if quantity.of_rarest else None
        own = everything if told_by is None else sizes[told_by]
        share = quantity.share(len(classes))
        powers.append(_power(metric, told_by, margins, len(own), _equal(own), share, confidence))
    return powers


def power_of_endpoint(endpoint: Endpoint, label: str | None, margins: Margins, confidence: float) -> Power:
    """What can be shown of an endpoint; `label` is the class whose groups tell of it."""
    return _power(
        endpoint.metric, label, margins, endpoint.groups, endpoint.counts_as, endpoint.share, confidence
    )


def _power(
    metric: str,
    label: str | None,
    margins: Margins,
    groups: int,
    counts_as: float,
    share: float,
    confidence: float,
) -> Power:
    margin = margins.of(metric)
    return Power(
        metric=metric,
        label=label,
        margin=margin,
        groups=groups,
        counts_as=int(counts_as + 1e-9),  # a whole number may have come out a little less
        needed=groups_needed(margin / share, confidence),
    )


def _equal(sizes: Counter[str]) -> float:
    return equal_groups(np.array(list(sizes.values()), np.float64))
