"""Arms beside one another, over the same seeds and patients: estimates, differences and their intervals.

Both the seed (split, first weights, order) and the patients of the test split are chance, and they cross:
every seed is measured on patients. So each draw of the bootstrap weighs seeds and patients at once, the same
ones in all arms (Owen 2007, "The pigeonhole bootstrap"; it errs on the wide side). Patients get the smooth
weights of the Bayesian bootstrap (Rubin 1981), so that no class is ever drawn empty. Seeds are few: one less
is drawn than there are, which gives their variance without bias (Rao and Wu 1988).

Percentiles of a bootstrap of few units are too close together (Hesterberg 2015, "What teachers should know
about the bootstrap"). So an interval is the estimate, and on both sides the bootstrap's standard error times
the quantile of Student's t, with the degrees of freedom of Satterthwaite (1946): about the seeds' where seeds
make most of the variance, about the patients' where these do. No interval is narrower than what so few
patients may not have shown (`share_unseen`): where no answer has changed, other patients' may.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from imil_backend.errors import ComparisonError
from imil_backend.loop.comparing.statistics.measures import CONFIDENCE, Answers, Floats, Measure

DRAWS = 2000
_AT_ONCE = 250  # draws whose weights of all samples are in memory


@dataclass(frozen=True)
class Estimate:
    """A mean over the seeds and its two-sided 95 % interval, over seeds and patients."""

    value: float
    lower: float
    upper: float
    by_seed: tuple[float, ...]


class Paired:
    """Arms over the same seeds."""

    def __init__(
        self,
        arms: Mapping[str, Sequence[Answers]],
        measures: Mapping[str, Measure],
        *,
        draws: int = DRAWS,
        seed: int = 0,
    ) -> None:
        """Draw the weights.

        Args:
            arms: by name, the answers of each seed in one order.
            measures: by name.
            draws: of the bootstrap.
            seed: of the draws.

        Raises:
            ComparisonError: arms were not tried on the same samples with the same seeds.
        """
        _check(arms)
        random = np.random.default_rng(seed)
        found = next(iter(arms.values()))
        self._patients = 1 + max(int(answers.patients.max()) for answers in found)
        self._weights = random.standard_exponential((draws, self._patients))
        drawn = max(1, len(found) - 1)
        self._seeds = random.multinomial(drawn, np.full(len(found), 1 / len(found)), draws) / drawn
        self._arms, self._measures = dict(arms), dict(measures)
        self._seen = cache(self._see)
        self._redrawn = cache(self._redraw)

    def estimate(self, arm: str, measure: str) -> Estimate | None:
        """An arm's own value, in the measure's range; None where it is not defined."""
        found = self._estimate(self._seen(arm, measure), self._redrawn(arm, measure), measure)
        least = self._measures[measure].least
        return found and replace(found, lower=max(found.lower, least), upper=min(found.upper, 1.0))

    def difference(self, arm: str, against: str, measure: str) -> Estimate | None:
        """An arm's value minus the other one's."""
        return self._estimate(
            self._seen(arm, measure) - self._seen(against, measure),
            self._redrawn(arm, measure) - self._redrawn(against, measure),
            measure,
        )

    def regained(self, arm: str, reference: str, cured: str, measure: str) -> Estimate | None:
        """The share of what the reference lacks to `cured` that an arm brings back.

        Its standard error is that of the delta method. None where it is not defined, or where it is not clear
        that the reference lacks anything: a share of what may be nothing has no interval (Fieller 1954).
        """
        gain, gap = self.difference(arm, reference, measure), self.difference(cured, reference, measure)
        if gain is None or gap is None or gap.lower <= 0:
            return None
        share = gain.value / gap.value
        apart = (
            self._redrawn(arm, measure)
            - self._redrawn(reference, measure) * (1 - share)
            - self._redrawn(cured, measure) * share
        ) / gap.value
        by_seed = tuple(each / gap.value for each in gain.by_seed)  # of the mean gap: a seed's may be nothing
        own = np.subtract(by_seed, share * np.array(gap.by_seed) / gap.value)
        half = self._half_width(own, apart)
        return Estimate(share, share - half, share + half, by_seed)

    def _see(self, arm: str, measure: str) -> Floats:
        """(seeds,) of the patients as they are."""
        same = np.ones((1, self._patients))
        return np.array([self._measures[measure].value(answers, same)[0] for answers in self._arms[arm]])

    def _redraw(self, arm: str, measure: str) -> Floats:
        """(draws, seeds) of redrawn patients."""
        value = self._measures[measure].value
        parts = [self._weights[start : start + _AT_ONCE] for start in range(0, len(self._weights), _AT_ONCE)]
        each = [np.concatenate([value(answers, part) for part in parts]) for answers in self._arms[arm]]
        return np.stack(each, axis=1)

    def _estimate(self, seen: Floats, redrawn: Floats, measure: str) -> Estimate | None:
        value = float(seen.mean())
        if math.isnan(value):
            return None
        half = max(self._half_width(seen, redrawn), self._unseen(measure))
        return Estimate(value, value - half, value + half, tuple(seen.tolist()))

    def _unseen(self, measure: str) -> float:
        """What the patients may not have shown; the mean, as splits may differ between seeds."""
        kind, found = self._measures[measure], next(iter(self._arms.values()))
        return float(np.mean([kind.unseen(answers, kind.where(answers)) for answers in found]))

    def _half_width(self, seen: Floats, redrawn: Floats) -> float:
        """Half of the interval of a mean over seeds (seeds,), of which there are draws (draws, seeds)."""
        from scipy import stats

        variance = float((self._seeds * redrawn).sum(axis=1).var())
        of_seeds = float(seen.var(ddof=1)) / len(seen) if len(seen) > 1 else 0.0
        of_patients = max(variance - of_seeds, 0.0)
        parts = of_seeds**2 / max(len(seen) - 1, 1) + of_patients**2 / max(self._patients - 1, 1)
        if parts == 0:
            return 0.0
        freedom = (of_seeds + of_patients) ** 2 / parts
        return float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(variance)


def _check(arms: Mapping[str, Sequence[Answers]]) -> None:
    first = next(iter(arms.values()))
    for name, found in arms.items():
        same = len(found) == len(first) > 0 and all(
            np.array_equal(own.labels, other.labels) and np.array_equal(own.patients, other.patients)
            for own, other in zip(found, first, strict=True)
        )
        if not same:
            raise ComparisonError(
                f"The arm {name} was not tried on the same samples and seeds as the others, so they cannot "
                "be compared."
            )
