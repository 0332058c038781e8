"""Whether a candidate may take the champion's place: a paired test on the validation split. Without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imil_backend.learning.scoring.endpoints import EXCHANGED, QUANTITIES, endpoints, pair
from imil_backend.learning.scoring.findings import Finding, findings_of, nothing_shown
from imil_backend.learning.scoring.power import Margins
from imil_backend.learning.scoring.robustness import pair_exchanged
from imil_backend.learning.scoring.verdicts import Judge, Verdict, judge_both, judge_one


@dataclass(frozen=True)
class Comparison:
    """A verdict, and what it rests on. What stands here beside it is that of the first finding."""

    verdict: Verdict
    difference: float  # the candidate's (robust) accuracy minus the champion's
    lower: float
    upper: float
    groups: int
    samples: int
    margin: float
    confidence: float
    findings: list[
        Finding
    ]  # of all QUANTITIES, and of EXCHANGED what the judge asks for; (robust) accuracy first
    reason: str
    judge: Judge = "plain"


def compare(
    champion: Mapping[str, Sequence[Any]],
    candidate: Mapping[str, Sequence[Any]],
    *,
    shortcut: Mapping[str, Any] | None = None,
    judge: Judge = "both",
    margins: Margins | None = None,
    classes: Sequence[str] = (),
    seed: int = 0,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Comparison:
    """Compare two versions on the samples that both have predicted.

    Accuracy alone would pass a candidate that no longer finds a rare class, so the recall of each class and
    AUC count as well; the bounds are in `bounds.py`, the rule in `verdicts.py`. A candidate is
    rejected if it is shown to be worse in one of them, and a loss by the margin is not excluded there: by the
    bootstrap and, of what is counted, by the exact sign test on groups, the larger chance of error, corrected
    for the number of endpoints (Holm 1979). Where the data show neither, or tell too little to show it, the
    comparison is undecided.

    Args:
        champion: A split of `predictions.json`: keys, groups, labels, probabilities, in one order.
        candidate: The same split, predicted by the other version.
        shortcut: `shortcut.json` with both versions; without it `both` is `plain`.
        judge: By unchanged images, by robust accuracy and robust recalls alone, or by both.
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
    exchanged = None if shortcut is None or judge == "plain" else pair_exchanged(shortcut)
    if len(pairs.labels) == 0 or (judge == "robust" and exchanged is None):
        return _nothing_known(len(pairs.labels), judge, margins, confidence)
    names = list(classes) or [f"class {number}" for number in range(pairs.champion.shape[1])]
    tested = [] if exchanged is None else endpoints(exchanged, EXCHANGED)
    judged, quantities = (pairs, QUANTITIES) if judge != "robust" else (exchanged or pairs, EXCHANGED)
    asked = [tested] if judge == "robust" else [endpoints(pairs), tested[:1]]
    findings = findings_of(asked, margins, names, seed=seed, resamples=resamples, confidence=confidence)
    findings += nothing_shown(quantities, set(judged.labels.tolist()), names, margins)
    decide = judge_both if judge == "both" and tested else judge_one
    verdict, reason = decide(findings, confidence)
    return Comparison(
        verdict=verdict,
        difference=findings[0].difference,
        lower=findings[0].lower,
        upper=findings[0].upper,
        groups=findings[0].groups,
        samples=len(judged.labels),
        margin=findings[0].margin,
        confidence=confidence,
        findings=findings,
        reason=reason,
        judge=judge,
    )


def _nothing_known(samples: int, judge: Judge, margins: Margins, confidence: float) -> Comparison:
    reason = "The two versions share no samples."
    if samples:
        reason = (
            "The robust accuracy of both versions is unknown, because no irrelevant parts are known "
            "in the validation split. `imil push --judge plain` judges versions by unchanged images."
        )
    return Comparison(
        "undecided", 0.0, -1.0, 1.0, 0, 0, margins.of("accuracy"), confidence, [], reason, judge
    )
