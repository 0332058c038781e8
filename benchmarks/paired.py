"""Arms beside a reference, over the same seeds and patients: metrics, differences and their intervals.

Both the seed (draw of the films, first weights, order) and the patients of the test split are chance, and
they cross: every seed is measured on the patients. So each draw of the bootstrap weighs seeds and patients at
once, the same patients in all seeds and arms (Owen 2007, "The pigeonhole bootstrap"), with the smooth weights
of the Bayesian one (Rubin 1981). Of few seeds any interval says little: least and most stand beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

METRICS = (
    "accuracy",
    "balanced accuracy",
    "AUC",
    "recall of class 0",
    "recall of class 1",
    "conflict",
    "agree",
)
DRAWS = 2000
_CONFIDENCE = 0.95

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """What a network of two classes answers to the test split."""

    labels: NDArray[np.int64]  # (n,) 0 or 1
    scores: Floats  # (n,) probability of class 1
    groups: NDArray[np.int64]  # (n,) numbers of patients
    contradicts: NDArray[np.bool_]  # (n,) the marker tells the other class

    def measured(self, weights: Floats) -> dict[str, Floats]:
        """Each of METRICS, (draws,), under weights of the patients (draws, patients); NaN where undefined.

        `conflict` and `agree` are the accuracies on films whose marker contradicts or tells the label.
        """
        own = weights[:, self.groups]
        correct = (self.scores > 0.5) == self.labels
        recalls = [_share(own, correct, self.labels == label) for label in (0, 1)]
        everything = np.ones(len(correct), bool)
        values = (
            _share(own, correct, everything),
            (recalls[0] + recalls[1]) / 2,
            _auc(own, self.scores, self.labels == 1),
            *recalls,
            _share(own, correct, self.contradicts),
            _share(own, correct, ~self.contradicts),
        )
        return dict(zip(METRICS, values, strict=True))


def _share(weights: Floats, correct: NDArray[np.bool_], where: NDArray[np.bool_]) -> Floats:
    """The weight of what is correct among what is meant, (draws,)."""
    if not where.any():
        return np.full(len(weights), np.nan)
    return np.asarray(weights[:, where & correct].sum(axis=1) / weights[:, where].sum(axis=1))


def _auc(weights: Floats, scores: Floats, positive: NDArray[np.bool_]) -> Floats:
    """The weighted chance that a positive scores above a negative, ties counting half, (draws,)."""
    if positive.all() or not positive.any():
        return np.full(len(weights), np.nan)
    order = np.argsort(scores, kind="stable")
    _, starts = np.unique(scores[order], return_index=True)
    above = np.add.reduceat(weights[:, order] * positive[order], starts, axis=1)
    below = np.add.reduceat(weights[:, order] * ~positive[order], starts, axis=1)
    won = (above * (below.cumsum(axis=1) - below / 2)).sum(axis=1)
    return np.asarray(won / (above.sum(axis=1) * below.sum(axis=1)))


class Comparison:
    """Arms over the seeds that all of them have."""

    def __init__(self, arms: Mapping[str, Sequence[Answers]], seed: int = 0) -> None:
        """`arms`: by name, the answers of each seed in one order."""
        random = np.random.default_rng(seed)
        patients = 1 + max(int(answers.groups.max()) for found in arms.values() for answers in found)
        (seeds,) = {len(found) for found in arms.values()}
        draws = random.standard_exponential((DRAWS, patients))
        self._seeds = random.dirichlet(np.ones(seeds), DRAWS)  # (draws, seeds)
        self._seen = {name: self._measured(found, np.ones((1, patients))) for name, found in arms.items()}
        self._drawn = {name: self._measured(found, draws) for name, found in arms.items()}

    @staticmethod
    def _measured(found: Sequence[Answers], weights: Floats) -> dict[str, Floats]:
        """(draws, seeds) of each metric."""
        each = [answers.measured(weights) for answers in found]
        return {metric: np.stack([values[metric] for values in each], axis=1) for metric in METRICS}

    def mean(self, arm: str, metric: str) -> float | None:
        """Over the seeds; None where it is not defined, as `conflict` without markers."""
        value = float(self._seen[arm][metric].mean())
        return None if math.isnan(value) else value

    def difference(self, arm: str, reference: str, metric: str) -> dict[str, Any]:
        """Of an arm and its reference: mean, 95 % interval, and least and most over seeds."""
        by_seed = (self._seen[arm][metric] - self._seen[reference][metric])[0]
        drawn = (self._seeds * (self._drawn[arm][metric] - self._drawn[reference][metric])).sum(axis=1)
        return {
            "mean": float(by_seed.mean()),
            **_interval(drawn),
            "least": float(by_seed.min()),
            "most": float(by_seed.max()),
            "seeds": by_seed.tolist(),
        }

    def regained(self, arm: str, reference: str, cured: str, metric: str = "accuracy") -> dict[str, float]:
        """Which share of what the reference lacks to `cured` an arm brings back: estimate and interval."""
        seen = {name: self._seen[name][metric].mean(axis=1) for name in (arm, reference, cured)}
        drawn = {
            name: (self._seeds * self._drawn[name][metric]).sum(axis=1) for name in (arm, reference, cured)
        }
        shares = [
            (values[arm] - values[reference]) / (values[cured] - values[reference])
            for values in (seen, drawn)
        ]
        return {"mean": float(shares[0][0]), **_interval(shares[1])}


def _interval(drawn: Floats) -> dict[str, float]:
    lower, upper = np.quantile(drawn, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
    return {"lower": float(lower), "upper": float(upper)}
