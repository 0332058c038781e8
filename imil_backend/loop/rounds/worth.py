"""The benefit of a round: its effect per minute that clinicians spent, and whether another one may pay."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.errors import ImilError
from imil_backend.learning.scoring.endpoints import quantity_of
from imil_backend.learning.scoring.findings import GAINS
from imil_backend.loop.answers.counted import COUNTS
from imil_backend.loop.rounds.lifecycle import find_closed_round
from imil_backend.loop.versions.mispredictions import count_next
from imil_backend.store.tables import Annotation, Dataset, Round, Task

logger = logging.getLogger(__name__)

Finding = Mapping[str, Any]  # of a verdict, see `scoring.findings.Finding`


@dataclass(frozen=True)
class Worth:
    """What a closed round brought, and what it cost in clinicians' time, as sentences."""

    minutes: float | None  # that Label Studio counted; None: of no answer
    answers: int  # that stand: reviews, gold tasks and what does not count took time, too
    timed: int  # of these, those whose time is known
    simulated: int  # of these, those by the simulated clinician: their time is made up
    sentences: tuple[str, ...]


def worth_of(session: Session, round_: Round) -> Worth | None:
    """What a closed round was worth; None of a baseline, and where nothing was compared.

    Whether another round may pay is said of the latest one alone: it depends on what is left to ask now.
    """
    findings = _gains((round_.verdict or {}).get("findings", ()))
    if round_.is_baseline or not findings:
        return None
    columns = select(Annotation.lead_time, Annotation.simulated, COUNTS).join(Annotation.task)
    given = session.execute(columns.where(Task.round_id == round_.id, ~Annotation.deleted)).all()
    seconds = [time for time, _, _ in given if time is not None]
    minutes = sum(seconds) / 60 if seconds else None
    simulated = sum(is_simulated for _, is_simulated, _ in given)
    sentences = [
        _spent(seconds, len(given), sum(not counts for _, _, counts in given), simulated),
        *(_effect(each, minutes) for each in findings),
    ]
    if find_closed_round(session, round_.dataset_id) is round_:
        sentences.append(_outlook(session, round_, findings))
    return Worth(minutes, len(given), len(seconds), simulated, tuple(sentences))


def _outlook(session: Session, round_: Round, findings: Sequence[Finding]) -> str:
    try:
        left = count_next(session, session.get_one(Dataset, round_.dataset_id))
    except ImilError as error:  # which has a path: these sentences are mailed
        logger.warning("Whether another round pays is unknown: %s", error)
        return "It is unknown whether another round pays: what the champion got wrong cannot be read."
    return outlook(findings, left, (round_.verdict or {}).get("shortcut"))


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


def _spent(seconds: Sequence[float], answers: int, others: int, simulated: int) -> str:
    beside = f" (reviews, gold tasks and uncounted ones: {others})" if others else ""
    told = f"{answers} answer{'' if answers == 1 else 's'}{beside}"
    by = f" {simulated} of the answers, and their times, are simulated." if simulated else ""
    if not seconds:
        return f"How long the {told} took is unknown.{by}"
    return (
        f"Clinicians spent {sum(seconds) / 60:.1f} minutes on {len(seconds)} of {told}, "
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
