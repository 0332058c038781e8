"""From findings to a verdict and its reason. Without torch.

Three ways to judge. On unchanged images (`plain`) and where markers no longer tell the class (`robust`) a
candidate is promoted if it is shown to be not worse by the margin or more in anything that is compared
(non-inferiority). As each of these must be shown, a candidate that is worse by the margin in any one of them
is promoted with a chance of 1 - confidence at most, however many there are (intersection-union test, Berger
1982).

`both` asks for that on unchanged images and of robust accuracy, and for a gain besides: the candidate must
be shown to be better in accuracy or in robust accuracy. That is one more condition of the same test. Its null
hypothesis, better in neither, is refuted by either of two tests, at a level of (1 - confidence) / 2 each
(union-intersection, Bonferroni). So a candidate is promoted with a chance of 1 - confidence at most where it
is worse by its margin in anything, and where it has gained in neither, as the champion's equal has not. In
trials with several endpoints the rule is known as non-inferior in all and superior in one (Bloch, Lai and
Tubert-Bitter 2001; Perlman and Wu 2004; Roehmel et al. 2006). Where the one gains and the other loses, or may
lose, only people know which of them counts where the model is used: undecided, and the trade is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from imil_backend.learning.scoring.endpoints import quantity_of
from imil_backend.learning.scoring.findings import GAINS, Finding

Verdict = Literal["promote", "reject", "undecided"]
Judge = Literal["plain", "robust", "both"]
_SHOWN = 4  # findings in a reason; all are in the comparison


def judge_one(findings: Sequence[Finding], confidence: float) -> tuple[Verdict, str]:
    """The verdict of `plain`, or of `robust`, and its reason."""
    if worse := _in_state(findings, "worse"):
        return "reject", _said_worse(worse, findings)
    if undecided := _in_state(findings, "undecided"):
        return "undecided", _listed(undecided)
    return "promote", _said_not_worse(findings, confidence)


def judge_both(findings: Sequence[Finding], confidence: float) -> tuple[Verdict, str]:
    """The verdict of `both` and its reason; accuracy and robust accuracy are among the findings."""
    by_metric = {each.metric: each for each in findings if each.metric in GAINS}
    plain, robust = (by_metric[metric] for metric in GAINS)
    gains = [each for each in (plain, robust) if each.p_gain is not None and each.p_gain <= 1 - confidence]
    trade = f"{_points(plain)} on unchanged images, {_points(robust)} when markers no longer tell the class"
    worse = _in_state(findings, "worse")
    if any((plain if each is robust else robust) not in gains for each in worse):
        return "reject", _said_worse(worse, findings)  # and nothing was gained on the other side
    if unsettled := [*worse, *_in_state(findings, "undecided")]:
        return "undecided", f"{trade}. {_listed(unsettled)}" if gains else _listed(unsettled)
    if not gains:
        return "undecided", (
            "The candidate is not worse by a margin or more in anything, and is not shown to be better: "
            f"{trade}."
        )
    better = " and ".join(
        f"{quantity_of(each.metric).title} rose from {each.champion:.3f} to {each.candidate:.3f}"
        for each in gains
    )
    return "promote", f"The candidate is better: {better}. {_said_not_worse(findings, confidence)}"


def _in_state(findings: Sequence[Finding], state: str) -> list[Finding]:
    return [each for each in findings if each.state == state]


def _points(finding: Finding) -> str:
    return f"{100 * finding.difference:+.1f} points"


def _said_worse(worse: Sequence[Finding], findings: Sequence[Finding]) -> str:
    compared = sum(each.champion is not None for each in findings)
    return (
        f"The candidate is worse. {_listed(worse)} (p is the larger one of bootstrap and exact sign "
        f"test, after Holm's correction for {compared} comparisons.)"
    )


def _said_not_worse(findings: Sequence[Finding], confidence: float) -> str:
    metrics = dict.fromkeys(each.metric for each in findings)
    shown = [reason for metric in metrics for reason in _shown(metric, findings)]
    return (
        f"With {confidence:.0%} confidence the candidate is not worse by a margin or more: "
        f"{'; '.join(shown)}."
    )


def _shown(metric: str, findings: Sequence[Finding]) -> list[str]:
    """Reasons of a quantity that is not worse; where there is one of each class, that of the largest loss."""
    own = [each for each in findings if each.metric == metric]
    if not quantity_of(metric).by_class:
        return [each.reason for each in own]
    lowest = min(own, key=lambda each: each.lower)
    return [f"{lowest.reason}, and that of the other classes by no more"]


def _listed(findings: Sequence[Finding]) -> str:
    """As sentences, the first ones only."""
    sentences = [f"{each.reason[0].upper()}{each.reason[1:]}." for each in findings[:_SHOWN]]
    if len(findings) > _SHOWN:
        sentences.append(f"The report has {len(findings) - _SHOWN} more.")
    return " ".join(sentences)
