"""Metrics of a version's predictions on a split, with 95 % intervals by group."""

from __future__ import annotations

import json
import re
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CHANCE = 0.03  # between an interval of 2,000 draws and one of DRAWS
DRAWS = 5_000


@dataclass(frozen=True)
class Part:
    """A mean over some of a split's samples: a metric is a sum of such."""

    values: NDArray[np.float64]
    groups: list[str]  # of the samples
    share: float  # of the metric
    unseen: bool  # whether the group that nobody has seen is one of these


@dataclass(frozen=True)
class Metric:
    """A metric of a version on a split."""

    name: str
    value: float
    parts: list[Part]

    @classmethod
    def of_mean(cls, name: str, values: NDArray[np.float64], groups: list[str]) -> Metric:
        """The mean over samples."""
        return cls(name, float(values.mean()), [Part(values, groups, 1, unseen=True)])


@dataclass(frozen=True)
class Split:
    """What a version predicted of a split."""

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]  # (samples, classes)
    groups: list[str]

    @classmethod
    def of(cls, version: sqlite3.Row, name: str) -> Split:
        found = json.loads(Path(version["directory"], "predictions.json").read_text())[name]
        return cls(np.array(found["labels"], int), np.array(found["probabilities"]), found["groups"])

    @property
    def predicted(self) -> NDArray[np.int64]:
        return self.probabilities.argmax(axis=1)

    @property
    def right(self) -> NDArray[np.float64]:
        return (self.predicted == self.labels).astype(float)

    def metrics(self, classes: list[str]) -> list[Metric]:
        """Accuracy, balanced accuracy, AUC of two classes, and the recall of each class that occurs."""
        present = sorted(set(self.labels.tolist()))
        of = {label: self.labels == label for label in present}
        rarest = min(present, key=lambda label: self._kish(of[label]))
        recalls = [self._part(self.right, of[label], unseen=True) for label in present]
        shares = [
            self._part(self.right, of[label], 1 / len(present), unseen=label == rarest) for label in present
        ]
        found = [
            Metric("accuracy", self.right.mean(), [self._part(self.right, self.labels >= 0, unseen=True)]),
            Metric("balanced accuracy", np.mean([each.values.mean() for each in recalls]), shares),
            *(
                Metric(f"recall of {classes[label]}", each.values.mean(), [each])
                for label, each in zip(present, recalls, strict=True)
            ),
        ]
        if len(present) == len(classes) == 2:
            found.append(self._auc(of[rarest], self.probabilities[:, rarest]))
        return found

    def _auc(self, positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> Metric:
        """The share of pairs that are in order."""
        pairs = np.sign(scores[positive][:, None] - scores[~positive]) / 2 + 0.5
        placed = np.empty(len(scores))
        placed[positive], placed[~positive] = pairs.mean(axis=1), pairs.mean(axis=0)
        sides = [self._part(placed, positive, unseen=True), self._part(placed, ~positive, unseen=False)]
        return Metric("AUC", pairs.mean(), sides)

    def _part(
        self, values: NDArray[np.float64], asked: NDArray[np.bool_], share: float = 1, *, unseen: bool
    ) -> Part:
        own = [group for group, is_one in zip(self.groups, asked, strict=True) if is_one]
        return Part(values[asked], own, share, unseen)

    def _kish(self, asked: NDArray[np.bool_]) -> float:
        """How many groups of equal size tell as much as these."""
        sizes = np.unique(np.array(self.groups)[asked], return_counts=True)[1]
        return float(sizes.sum() ** 2 / (sizes**2).sum())


def interval_of(metric: Metric, least: float = 0.0) -> tuple[float, float]:
    """Of the Bayesian bootstrap of groups, with one more that nobody has seen, all `least` or all 1."""
    groups = sorted({group for part in metric.parts for group in part.groups})
    weights = np.random.default_rng(1).dirichlet(np.ones(len(groups) + 1), DRAWS)
    ends = []
    for guess in (least, 1.0):
        drawn = np.zeros(DRAWS)
        for part in metric.parts:
            sizes = np.array([part.groups.count(group) for group in groups])
            alike = (sizes**2).sum() / sizes.sum()  # samples in one group, if all were of one size
            values = np.append(part.values, guess)
            own = np.hstack(
                [
                    weights[:, [groups.index(group) for group in part.groups]],
                    weights[:, -1:] * alike * part.unseen,
                ]
            )
            drawn += part.share * (own @ values) / own.sum(axis=1)
        ends.append(drawn)
    # Of an AUC both sides are drawn, and each has it as its mean.
    more = sum(part.share * part.values.mean() for part in metric.parts) - metric.value
    low, high = np.quantile(ends[0], 0.025) - more, np.quantile(ends[1], 0.975) - more
    return max(least, min(metric.value, low)), min(1.0, max(metric.value, high))


def check_estimate(shown: str, metric: Metric, least: float = 0.0) -> None:
    """A value as it is, and an interval but for the chance of its draws. Values are `least` to 1."""
    value, lower, upper = map(float, re.match(r"(\S+) \((?:95%: )?(\S+) to ([-+\d.]+)", shown).groups())
    assert abs(value - metric.value) < 0.0006, (metric.name, shown)
    low, high = interval_of(metric, least)
    assert abs(lower - low) < CHANCE, (metric.name, shown, low)
    assert abs(upper - high) < CHANCE, (metric.name, shown, high)
