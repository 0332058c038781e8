"""What may be claimed of arms: by interval and test together, and only what so many seeds can show.

An arm is called better or worse than the one that it is compared with if two things agree. The 95 % interval
over seeds and patients does not hold zero: other patients would show it too. And flipping signs over seeds
gives p < 0.05 after Holm's correction for all comparisons of the data set: other trainings would show it too.
It is alike if the interval excludes a gain and a loss of the margin or more. All else is undecided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from imil_backend.learning.scoring.bounds import corrected as after_holm
from imil_backend.loop.comparing.statistics.measures import Measure
from imil_backend.loop.comparing.statistics.paired import Estimate, Paired
from imil_backend.loop.comparing.statistics.significance import LEVEL, seeds_needed, sign_flip

State = Literal["better", "worse", "alike", "undecided"]


@dataclass(frozen=True)
class Claim:
    """One comparison, in the measure that the protocol has named beforehand."""

    arm: str
    against: str
    difference: Estimate  # the arm's value minus the other one's
    p: float | None  # of flipping signs, after Holm; None: too few seeds to give one below the level
    state: State

    @property
    def suggested(self) -> bool:
        """Whether the interval does not hold zero, though it may not be claimed."""
        return self.state == "undecided" and not self.difference.lower <= 0 <= self.difference.upper


def claims(
    paired: Paired, comparisons: Sequence[tuple[str, str]], measure: str, kind: Measure, margin: float
) -> list[Claim]:
    """Of each comparison (arm, against); those in which the measure is not defined are left out.

    Args:
        paired: the arms over their seeds.
        comparisons: all that the protocol names: Holm's correction is for their number.
        measure: name of the primary end point.
        kind: it.
        margin: a difference below this is of no consequence.
    """
    found = {pair: paired.difference(*pair, measure) for pair in comparisons}
    defined: Mapping[tuple[str, str], Estimate] = {pair: each for pair, each in found.items() if each}
    seeds = min((len(each.by_seed) for each in defined.values()), default=0)
    corrected: list[float] | list[None] = [None] * len(defined)
    if defined and seeds >= seeds_needed(len(defined)):
        corrected = after_holm([sign_flip(each.by_seed) for each in defined.values()])
    return [
        Claim(*pair, each, p, _state(each, p, margin, more_is_better=kind.more_is_better))
        for (pair, each), p in zip(defined.items(), corrected, strict=True)
    ]


def _state(difference: Estimate, p: float | None, margin: float, *, more_is_better: bool) -> State:
    if p is not None and p < LEVEL and (difference.lower > 0 or difference.upper < 0):
        return "better" if (difference.lower > 0) == more_is_better else "worse"
    return "alike" if -margin < difference.lower and difference.upper < margin else "undecided"
