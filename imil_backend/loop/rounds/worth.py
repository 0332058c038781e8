"""The benefit of a round: its effect per minute that clinicians spent, and whether another one may pay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.learning.scoring.endpoints import quantity_of
from imil_backend.learning.scoring.findings import GAINS
from imil_backend.loop.versions.mispredictions import count_next
from imil_backend.store.tables import Annotation, Dataset, Round, Task

Finding = Mapping[str, Any]  # of a verdict, see `scoring.findings.Finding`


@dataclass(frozen=True)
class Worth:
    """What a closed round brought, and what it cost in clinicians' time, as sentences."""

    minutes: float | None  # that Label Studio counted; None: of no answer
    answers: int  # that stand
    timed: int  # of these, those whose time is known
    simulated: int  # of these, those by the simulated clinician: their time is made up
    sentences: tuple[str, ...]


def worth_of(session: Session, round_: Round) -> Worth | None:
    """What a closed round was worth; None of a baseline, and where nothing was compared."""
    findings = _gains((round_.verdict or {}).get("findings", ()))
    if round_.is_baseline or not findings:
        return None
    found = select(Annotation).join(Annotation.task).where(Task.round_id == round_.id, ~Annotation.deleted)
    annotations = session.scalars(found).all()
    seconds = [each.lead_time for each in annotations if each.lead_time is not None]
    minutes = sum(seconds) / 60 if seconds else None
    simulated = sum(each.simulated for each in annotations)
    left = count_next(session, session.get_one(Dataset, round_.dataset_id))
    sentences = [
        _spent(seconds, len(annotations), simulated),
        *(_effect(each, minutes) for each in findings),
        outlook(findings, left, (round_.verdict or {}).get("shortcut")),
    ]
    return Worth(minutes, len(annotations), len(seconds), simulated, tuple(sentences))


def outlook(findings: Sequence[Finding], left: int, shortcut: Mapping[str, Any] | None) -> str:
    """Whether another round is likely to pay, and why.

    Args:
        findings: of accuracy, and of robust accuracy where it was measured.
        left: how many samples the next round would ask.
        shortcut: the shortcut test of the verdict.
    """
    if not left:
        return "Another round has nothing to ask about: no misprediction is left."
    asks = f"{left} {'sample is' if left == 1 else 'samples are'} left to ask about"
    shown = [each for each in findings if each["lower"] > 0]
    if shown:
        what = " and ".join(quantity_of(each["metric"]).title for each in shown)
        return f"Another round is likely to pay: this one raised {what} beyond chance, and {asks}."
    drop = ((shortcut or {}).get("candidate") or {}).get("drop")
    if drop and drop["lower"] > 0:
        return (
            f"Another round may pay: the model still leans on what was painted (by {100 * drop['value']:.1f} "
            f"points, at least {100 * drop['lower']:.1f}), and {asks}."
        )
    if all(each["upper"] < each["margin"] for each in findings):
        most = max(100 * each["upper"] for each in findings)
        return f"Another round is unlikely to pay: this one gained at most {max(most, 0):.1f} points."
    groups = min(each["groups"] for each in findings)
    return (
        f"It is unknown whether another round pays: {groups} groups in the validation split are too "
        f"few to show what this one changed; {asks}."
    )


def _gains(findings: Sequence[Finding]) -> list[Finding]:
    return [each for each in findings if each["metric"] in GAINS and each["champion"] is not None]


def _spent(seconds: Sequence[float], answers: int, simulated: int) -> str:
    by = f" {simulated} of the answers, and their times, are simulated." if simulated else ""
    if not seconds:
        return f"How long the {answers} answers took is unknown.{by}"
    return (
        f"Clinicians spent {sum(seconds) / 60:.1f} minutes on {len(seconds)} of {answers} answers, "
        f"{median(seconds):.0f} seconds each (median).{by}"
    )


def _effect(finding: Finding, minutes: float | None) -> str:
    points = [100 * finding[name] for name in ("difference", "lower", "upper")]
    title = quantity_of(finding["metric"]).title
    told = f"{title[0].upper()}{title[1:]}: {points[0]:+.1f} points ({points[1]:+.1f} to {points[2]:+.1f})"
    if not minutes:
        return f"{told}."
    each = [value / minutes for value in points]
    return f"{told}, {each[0]:+.2f} a minute ({each[1]:+.2f} to {each[2]:+.2f})."
