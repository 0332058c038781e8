"""What the validation split shows of each thing that two versions are compared in. Without torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from imil_backend.learning.scoring.bounds import Bounds, bounds_of, corrected, sign_test
from imil_backend.learning.scoring.endpoints import EXCHANGED, Endpoint, Quantity, quantity_of
from imil_backend.learning.scoring.power import Margins, Power, power_of_endpoint

GAINS = ("accuracy", "robust_accuracy")  # where `both` asks for one


@dataclass(frozen=True)
class Finding:
    """What the validation split shows of one endpoint."""

    metric: str  # a name in QUANTITIES or EXCHANGED
    label: str | None  # the class whose groups tell of it; None: all groups do
    state: Literal["not worse", "worse", "undecided"]
    champion: float | None  # None: the class does not occur
    candidate: float | None
    difference: float
    lower: float  # the difference is above this with the given confidence
    upper: float  # and below this
    margin: float  # how much worse a candidate may be
    groups: int  # that tell of it
    groups_worse: int | None  # None where groups do not get better or worse, as in AUC
    groups_better: int | None
    p: float  # of 'it is not worse', corrected for the number of endpoints
    reason: str
    p_gain: float | None = None  # of 'it is not better', corrected likewise; None where that is not asked


def findings_of(
    asked: Sequence[Sequence[Endpoint]],
    margins: Margins,
    names: Sequence[str],
    *,
    seed: int,
    resamples: int,
    confidence: float,
) -> list[Finding]:
    """A finding for each endpoint, in order.

    Args:
        asked: Endpoints in lists, those of a list of the same groups.
        margins: Largest losses that are put up with.
        names: Of the classes.
        seed: Of the draws.
        resamples: Number of draws.
        confidence: Of what is shown.
    """
    pairs = [
        (each, bounds)
        for part in asked
        if part
        for each, bounds in zip(
            part, bounds_of(part, seed=seed, resamples=resamples, confidence=confidence), strict=True
        )
    ]
    chances = corrected([_chance(each, bounds) for each, bounds in pairs])
    gains = _gains(pairs)
    return [
        replace(_finding(each, bounds, p, margins, names, confidence), p_gain=gains.get(each.metric))
        for (each, bounds), p in zip(pairs, chances, strict=True)
    ]


def nothing_shown(
    quantities: Mapping[str, Quantity], occurring: Collection[int], names: Sequence[str], margins: Margins
) -> list[Finding]:
    """Findings of the classes that do not occur, for each quantity that has one of each class.

    Args:
        quantities: that are asked for.
        occurring: classes.
        names: of all classes.
        margins: Largest losses that are put up with.
    """
    return [
        _absent(metric, name, margins)
        for metric, quantity in quantities.items()
        if quantity.by_class
        for label, name in enumerate(names)
        if label not in occurring
    ]


def _gains(pairs: Sequence[tuple[Endpoint, Bounds]]) -> dict[str, float]:
    """The chance of error, if accuracy or robust accuracy is said to be better; where both were asked."""
    asked = [(each.metric, bounds.p_gain) for each, bounds in pairs if each.metric in GAINS]
    if len(asked) < len(GAINS):
        return {}
    return dict(zip([metric for metric, _ in asked], corrected([p for _, p in asked]), strict=True))


def _changed(endpoint: Endpoint) -> tuple[int, int] | None:
    """How many groups got worse and better; None where it is no mean over groups, as AUC."""
    if len(endpoint.parts) > 1:
        return None
    differences = endpoint.parts[0].differences
    return int((differences < 0).sum()), int((differences > 0).sum())


def _chance(endpoint: Endpoint, bounds: Bounds) -> float:
    """Of error, if it is said to be worse."""
    changed = _changed(endpoint)
    return bounds.p if changed is None else max(bounds.p, sign_test(*changed))


def _finding(
    endpoint: Endpoint, bounds: Bounds, p: float, margins: Margins, names: Sequence[str], confidence: float
) -> Finding:
    label = None if endpoint.label is None else names[endpoint.label]
    power = power_of_endpoint(endpoint, label, margins, confidence)
    changed = _changed(endpoint)
    state: Literal["not worse", "worse", "undecided"] = "undecided"
    if bounds.lower <= -power.margin and endpoint.difference < 0 and p <= 1 - confidence:
        state = "worse"
    elif bounds.lower > 0 or (bounds.lower > -power.margin and power.enough):
        state = "not worse"  # what has risen has not fallen, however few groups show it
    return Finding(
        metric=endpoint.metric,
        label=label,
        state=state,
        champion=endpoint.champion,
        candidate=endpoint.candidate,
        difference=endpoint.difference,
        lower=bounds.lower,
        upper=bounds.upper,
        margin=power.margin,
        groups=endpoint.groups,
        groups_worse=changed[0] if changed else None,
        groups_better=changed[1] if changed else None,
        p=p,
        reason=_reason(state, endpoint, bounds, p, power, label),
    )


def _reason(state: str, endpoint: Endpoint, bounds: Bounds, p: float, power: Power, label: str | None) -> str:
    what = quantity_of(endpoint.metric).of(label)
    if bounds.lower > 0:
        return f"{what} rose by {bounds.lower:.3f} at least"
    if state == "not worse":
        return f"{what} fell by {max(-bounds.lower, 0):.3f} at most (margin {power.margin:.3f})"
    values = f"{what} went from {endpoint.champion:.3f} to {endpoint.candidate:.3f}"
    if state == "worse":
        changed = _changed(endpoint)
        groups = f"; groups that got worse: {changed[0]}, better: {changed[1]}" if changed else ""
        return f"{values}, by {endpoint.difference:+.3f}{groups}; p = {p:.2g}"
    if not power.enough:
        return str(power)
    return (
        f"{values}: the difference lies between {bounds.lower:+.3f} and {bounds.upper:+.3f}, and a loss of "
        f"{power.margin:.3f} is neither shown nor excluded"
    )


def _absent(metric: str, name: str, margins: Margins) -> Finding:
    sample = "sample with a known irrelevant part" if metric in EXCHANGED else "sample"
    return Finding(
        metric=metric, label=name, state="undecided", champion=None, candidate=None,
        difference=0.0, lower=-1.0, upper=1.0, margin=margins.of(metric),
        groups=0, groups_worse=0, groups_better=0, p=1.0,
        reason=f"the validation split has no {sample} of {name}, and says nothing about its "
        f"{quantity_of(metric).title}",
    )  # fmt: skip
