"""Results in plain sentences: what helped, what did not, and with what certainty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from imil_backend.loop.comparing.protocol import Protocol
from imil_backend.loop.comparing.results.summary import UPPER, Count, Summary, measures_for
from imil_backend.loop.comparing.statistics.claims import Claim
from imil_backend.loop.comparing.statistics.measures import Measure
from imil_backend.loop.comparing.statistics.paired import Estimate
from imil_backend.loop.comparing.statistics.significance import seeds_needed, smallest_p


@dataclass(frozen=True)
class Finding:
    """What was found of an arm."""

    arm: str
    state: str
    text: str  # that follows the arm's name


@dataclass(frozen=True)
class Answer:
    """What was found in a setting, for a person in a hurry.

    Attributes:
        headline: in one sentence.
        findings: of each arm that is better or worse, or is suggested to be; the largest first.
        rest: of the others: which are alike, and of which the data tell too little.
        caution: why nothing is claimed; empty where enough seeds were trained.
    """

    headline: str
    findings: tuple[Finding, ...]
    rest: tuple[str, ...]
    caution: str


def answer_of(protocol: Protocol, summary: Summary) -> Answer:
    """The answer in a primary setting."""
    measure = measures_for(summary.dataset)[protocol.end_point]
    ordered = sorted(summary.claims, key=lambda claim: -measure.sign * claim.difference.value)
    shown = [claim for claim in ordered if claim.state in {"better", "worse"} or claim.suggested]
    needed = seeds_needed(len(ordered))
    caution = ""
    if summary.seeds < needed:
        caution = (
            f"{_seeds(summary.seeds)} cannot show a difference in {_comparisons(len(ordered))}, whatever "
            f"comes out: the smallest p-value that they can give is {smallest_p(summary.seeds):.2g}, before "
            f"correction. No p-value is given; {needed} seeds are needed."
        )
    return Answer(
        _headline(protocol, ordered, measure, enough=not caution),
        tuple(_finding(protocol, summary, claim, measure) for claim in shown),
        tuple(_rest(protocol, [claim for claim in ordered if claim not in shown], measure)),
        caution,
    )


def what_was_compared(protocol: Protocol, summary: Summary) -> str:
    """The setting, with everything that is not real named."""
    dataset, count = summary.dataset, summary.counts[protocol.end_point]
    asked = f"{summary.setting.painted:.1%} of the training images were asked about"
    if dataset.annotations == "answers":
        masks = "masks from answers in Label Studio" + (
            ", some of them by the simulated clinician" if dataset.simulated else " by clinicians"
        )
    else:
        masks = "masks that came with the data set: a simulated clinician"
    planted = ""
    if dataset.marker is not None:
        planted = (
            f" A planted marker ({dataset.marker}) tells the class in {dataset.agreement or 0:.0%} of the "
            "training and validation images."
        )
    return (
        f"{len(summary.arms)} arms, {_seeds(summary.seeds)}; {asked} ({masks}). Measured on "
        f"{samples(count)} of the test split.{planted} Intervals are 95%, over seeds and patients; p is of "
        f"flipping the signs of the seeds' differences, after Holm's correction for "
        f"{_comparisons(len(summary.claims))}."
    )


def value(estimate: Estimate, measure: Measure) -> str:
    """An estimate alone: 71.2%, or 0.912."""
    return f"{estimate.value:.1%}" if measure.percent else f"{estimate.value:.3f}"


def change(estimate: Estimate, measure: Measure) -> str:
    """A difference: +6.9 points, or +0.031."""
    return f"{_signed(estimate.value, measure)}{' points' if measure.percent else ''}"


def interval(estimate: Estimate, measure: Measure) -> str:
    """Of a difference: +3.1 to +10.7."""
    return f"{_signed(estimate.lower, measure)} to {_signed(estimate.upper, measure)}"


def samples(count: Count) -> str:
    """How many images of how many patients."""
    number = f"{count.least:,}" if count.least == count.most else f"{count.least:,} to {count.most:,}"
    return f"{number} images of {count.patients:,} patients (groups)"


def p_value(p: float | None) -> str:
    """p after Holm's correction."""
    if p is None:
        return "too few seeds"
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def listed(names: Sequence[str]) -> str:
    """a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _headline(protocol: Protocol, ordered: Sequence[Claim], measure: Measure, *, enough: bool) -> str:
    methods = [claim for claim in ordered if claim.arm != UPPER]  # the upper bound is none
    better = [claim.arm for claim in methods if claim.state == "better"]
    worse = [claim.arm for claim in methods if claim.state == "worse"]
    suggested = [claim.arm for claim in methods if claim.suggested]
    if better or worse:
        harmed = f" Did harm: {listed(worse)}." if worse else ""
        return f"Helped: {listed(better) if better else 'nothing'}.{harmed}"
    if not enough:
        return (
            f"Nothing is shown: too few seeds. Intervals suggest a difference of {listed(suggested)}."
            if suggested
            else "Nothing is shown: too few seeds, and no interval suggests a difference."
        )
    if all(claim.state == "alike" for claim in methods):
        return f"No arm differs from {protocol.against} by {_margin(protocol, measure)} or more."
    return f"No arm was shown to differ from {protocol.against}."


def _finding(protocol: Protocol, summary: Summary, claim: Claim, measure: Measure) -> Finding:
    before = summary.arm(claim.against).values[protocol.end_point]
    after = summary.arm(claim.arm).values[protocol.end_point]
    verb = "rose" if claim.difference.value > 0 else "fell"
    certainty = f"95% interval {interval(claim.difference, measure)}"
    if claim.p is not None:
        certainty += f", p {p_value(claim.p) if claim.p < 0.001 else f'= {p_value(claim.p)}'}"
    kind = claim.state if claim.state in {"better", "worse"} else "suggested, not shown"
    bound = ", upper bound" if claim.arm == UPPER else ""
    return Finding(
        claim.arm,
        claim.state,
        f"({kind}{bound}): {measure.title} {verb} from {value(before, measure)} to {value(after, measure)}, "
        f"{change(claim.difference, measure)} ({certainty}).",
    )


def _rest(protocol: Protocol, claims: Sequence[Claim], measure: Measure) -> list[str]:
    alike = [claim.arm for claim in claims if claim.state == "alike"]
    undecided = [claim.arm for claim in claims if claim.state == "undecided"]
    margin = _margin(protocol, measure)
    said = []
    if alike:
        said.append(f"No difference of {margin} or more: {listed(alike)}.")
    if undecided:
        said.append(f"Undecided, too little data to show or to exclude a difference: {listed(undecided)}.")
    return said


def _margin(protocol: Protocol, measure: Measure) -> str:
    return f"{100 * protocol.margin:g} points" if measure.percent else f"{protocol.margin:g}"


def _signed(number: float, measure: Measure) -> str:
    return f"{100 * number:+.1f}" if measure.percent else f"{number:+.3f}"


def _seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"


def _comparisons(count: int) -> str:
    return "1 comparison" if count == 1 else f"{count} comparisons"
