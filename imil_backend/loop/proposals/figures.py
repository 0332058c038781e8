"""What became of proposed masks, for the lead: are they accepted because they are right?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from imil_backend.loop.base.states import Outcome, Purpose
from imil_backend.store.tables import Annotation

EXPLAINED = {
    Outcome.ACCEPTED: "accepted as proposed",
    Outcome.CORRECTED: "corrected",
    Outcome.REJECTED: "rejected",
    Outcome.PAINTED: "painted without it",
}


@dataclass(frozen=True)
class Agreement:
    """How far proposed and painted masks agree: the mean Dice coefficient of so many answers."""

    answers: int
    dice: float | None


@dataclass(frozen=True)
class ProposalFigures:
    """The answers of tasks with a proposed mask.

    Attributes:
        outcomes: how many answers ended how; values of `Outcome`.
        shown: agreement where the mask was shown.
        control: agreement in the control group, which did not see it.
    """

    outcomes: dict[str, int]
    shown: Agreement
    control: Agreement

    @property
    def sentences(self) -> list[str]:
        """For status and report."""
        seen = sum(count for outcome, count in self.outcomes.items() if outcome != Outcome.CONTROL.value)
        told = [f"{self.outcomes.get(each.value, 0)} {words}" for each, words in EXPLAINED.items()]
        return [
            f"{seen} answers to tasks with a proposed mask: {', '.join(told)}.",
            f"Dice of proposed and painted masks: {_told(self.shown)} where the proposal was shown, "
            f"{_told(self.control)} in the control group, which did not see it. A large difference means "
            "that proposals are accepted without looking.",
        ]


def proposal_figures(annotations: Iterable[Annotation]) -> ProposalFigures | None:
    """The figures of these annotations, as far as they stand and are no reviews.

    None where no mask was proposed.
    """
    own = [
        each
        for each in annotations
        if each.outcome is not None and not each.deleted and each.task.purpose == Purpose.ASKED.value
    ]
    if not own:
        return None
    control = [each for each in own if each.outcome == Outcome.CONTROL.value]
    shown = [each for each in own if each.outcome != Outcome.CONTROL.value]
    outcomes = Counter(str(each.outcome) for each in own)
    return ProposalFigures(dict(outcomes), _agreement(shown), _agreement(control))


def _agreement(annotations: Sequence[Annotation]) -> Agreement:
    dice = [each.proposal_dice for each in annotations if each.proposal_dice is not None]
    return Agreement(len(dice), sum(dice) / len(dice) if dice else None)


def _told(agreement: Agreement) -> str:
    if agreement.dice is None:
        return "not known (no answer)"
    return f"{agreement.dice:.2f} ({agreement.answers} answers)"
