"""Whether a candidate may take the champion's place: a paired test on the validation split. Without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from imil_backend.learning.scoring.bounds import Bounds, bounds_of, corrected, sign_test
from imil_backend.learning.scoring.endpoints import QUANTITIES, Endpoint, endpoints, pair
from imil_backend.learning.scoring.power import Margins, Power, power_of_endpoint

Verdict = Literal["promote", "reject", "undecided"]
_SHOWN = 4  # findings in a reason; all are in the comparison


@dataclass(frozen=True)
class Finding:
    """What the validation split shows of one endpoint."""

    metric: str  # a name in QUANTITIES
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


@dataclass(frozen=True)
class Comparison:
    """A verdict, and what it rests on. What stands here beside it is accuracy's."""

    verdict: Verdict
    difference: float  # the candidate's accuracy minus the champion's
    lower: float
    upper: float
    groups: int
    samples: int
    margin: float
    confidence: float
    findings: list[Finding]  # of all QUANTITIES; accuracy's comes first
    reason: str


def compare(
    champion: Mapping[str, Sequence[Any]],
    candidate: Mapping[str, Sequence[Any]],
    *,
    margins: Margins | None = None,
    classes: Sequence[str] = (),
    seed: int = 0,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Comparison:
    """Compare two versions on the samples that both have predicted.

    Accuracy alone would pass a candidate that no longer finds a rare class. So it is promoted if it is not
    worse by the margin or more in anything: accuracy, the recall of each class, AUC (QUANTITIES;
    non-inferiority; the bounds are in `bounds.py`). As each of these must be shown, a candidate that is
    worse by the margin in any one of them is promoted with a chance of 1 - confidence at most, however many
    there are (intersection-union test, Berger 1982). It is rejected if it is shown to be worse in one of
    them, and a loss by the margin is not excluded there: by the bootstrap and by the exact sign test on
    groups, the larger chance of error, corrected for the number of endpoints (Holm 1979). Where the data
    show neither, or tell too little to show it, the comparison is undecided.

    Args:
        champion: A split of `predictions.json`: keys, groups, labels, probabilities, in one order.
        candidate: The same split, predicted by the other version.
        margins: Largest losses that are put up with.
        classes: Names, for the reasons; numbers if absent.
        seed: Of the draws.
        resamples: Number of draws.
        confidence: That no candidate is promoted, or rejected, wrongly.

    Raises:
        LearningError: the two do not agree on a sample's label.
    """
    margins = margins or Margins()
    pairs = pair(champion, candidate)
    if len(pairs.labels) == 0:
        return Comparison(
            "undecided", 0.0, -1.0, 1.0, 0, 0, margins.of("accuracy"), confidence, [],
            "The two share no samples.",
        )  # fmt: skip
    names = list(classes) or [f"class {number}" for number in range(pairs.champion.shape[1])]
    found = endpoints(pairs)
    bounds = bounds_of(found, seed=seed, resamples=resamples, confidence=confidence)
    chances = corrected([_chance(each, bound) for each, bound in zip(found, bounds, strict=True)])
    findings = [
        _finding(each, bound, p, margins, names, confidence)
        for each, bound, p in zip(found, bounds, chances, strict=True)
    ]
    occurring = {int(label) for label in np.unique(pairs.labels)}
    findings += [
        _absent(metric, name, margins)
        for metric, quantity in QUANTITIES.items()
        if quantity.by_class
        for label, name in enumerate(names)
        if label not in occurring
    ]
    verdict, reason = _judge(findings, confidence)
    accuracy = findings[0]
    return Comparison(
        verdict=verdict,
        difference=accuracy.difference,
        lower=accuracy.lower,
        upper=accuracy.upper,
        groups=accuracy.groups,
        samples=len(pairs.labels),
        margin=accuracy.margin,
        confidence=confidence,
        findings=findings,
        reason=reason,
    )


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
    elif bounds.lower > -power.margin and power.enough:
        state = "not worse"
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
    what = QUANTITIES[endpoint.metric].of(label)
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
    return Finding(
        metric=metric, label=name, state="undecided", champion=None, candidate=None,
        difference=0.0, lower=-1.0, upper=1.0, margin=margins.of(metric),
        groups=0, groups_worse=0, groups_better=0, p=1.0,
        reason=f"the validation split has no sample of {name}, and tells nothing of its "
        f"{QUANTITIES[metric].title}",
    )  # fmt: skip


def _judge(findings: Sequence[Finding], confidence: float) -> tuple[Verdict, str]:
    if worse := [each for each in findings if each.state == "worse"]:
        compared = sum(each.champion is not None for each in findings)
        return "reject", (
            f"The candidate is worse. {_listed(worse)} (p is the larger one of bootstrap and exact sign "
            f"test, after Holm's correction for {compared} comparisons.)"
        )
    if undecided := [each for each in findings if each.state == "undecided"]:
        return "undecided", _listed(undecided)
    shown = [reason for metric in QUANTITIES for reason in _shown(metric, findings)]
    return "promote", (
        f"With {confidence:.0%} confidence the candidate is not worse by a margin or more: "
        f"{'; '.join(shown)}."
    )


def _shown(metric: str, findings: Sequence[Finding]) -> list[str]:
    """Reasons of a quantity that is not worse; where there is one of each class, that of the largest loss."""
    own = [each for each in findings if each.metric == metric]
    if not QUANTITIES[metric].by_class:
        return [each.reason for each in own]
    lowest = min(own, key=lambda each: each.lower)
    return [f"{lowest.reason}, and that of the other classes by no more"]


def _listed(findings: Sequence[Finding]) -> str:
    """As sentences, the first ones only."""
    sentences = [f"{each.reason[0].upper()}{each.reason[1:]}." for each in findings[:_SHOWN]]
    if len(findings) > _SHOWN:
        sentences.append(f"{len(findings) - _SHOWN} more are in the report.")
    return " ".join(sentences)
