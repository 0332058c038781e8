"""What is measured of a network's answers, where patients may weigh differently: so they are redrawn.

With equal weights these are the values of `learning/scoring/metrics.py` and of scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imil_backend.learning.evaluation.calibration import bins_of
from imil_backend.learning.scoring.endpoints import equal_groups
from imil_backend.learning.scoring.metrics import Labels, Probabilities
from imil_backend.loop.comparing.runs import Predictions, Run

Bits = NDArray[np.bool_]
Floats = NDArray[np.float64]

CONFIDENCE = 0.95  # of intervals
WITH_MARKER = {"agree", "conflict", "worst_group"}  # measures that a planted marker is needed for
WITH_MASKS = {"robust_accuracy", "drop"}  # of the shortcut test, that masks are needed for
_UNTESTED = (np.nan, np.nan)


@dataclass(frozen=True)
class Answers:
    """What a network answers to the test split."""

    labels: Labels  # (n,)
    probabilities: Probabilities  # (n, classes)
    patients: NDArray[np.int64]  # (n,) their numbers
    contradicting: Bits | None = None  # (n,) the planted marker tells another class
    threshold: float | None = None  # of the probability of class 1, where there are two; from validation
    # (n, 2) shares of draws answered rightly with donors of the same class and of any class; NaN: not tested
    exchanged: Floats | None = None

    @property
    def right(self) -> Bits:
        """(n,) whether the most probable class is the label."""
        return np.asarray(self.probabilities.argmax(axis=1) == self.labels)

    def share(self, weights: Floats, right: Bits, where: Bits) -> Floats:
        """The weight of what is right among what is meant, (draws,); NaN where nothing is.

        Args:
            weights: (draws, patients)
            right: (n,)
            where: (n,)
        """
        if not where.any():
            return np.full(len(weights), np.nan)
        return np.asarray(self.weigh(weights, right & where) / self.weigh(weights, where))

    def weigh(self, weights: Floats, values: NDArray[np.generic]) -> Floats:
        """The sum of values (n,), each with its patient's weight, (draws,)."""
        # No matrix product: threads of BLAS that wait for one another make this many times slower.
        summed = np.bincount(self.patients, values, weights.shape[1])
        return np.asarray(np.einsum("ij,j->i", weights, summed))


@dataclass(frozen=True)
class Measure:
    """One thing that arms are compared in, of answers under weights (draws, patients)."""

    title: str
    value: Callable[[Answers, Floats], Floats]  # (draws,), NaN where it is not defined
    where: Callable[[Answers], Bits]  # (n,) the samples that it is about
    unseen: Callable[[Answers, Bits], float]  # see `share_unseen`
    more_is_better: bool = True
    percent: bool = True  # a share of samples; else written with three decimals
    least: float = 0.0  # that it can be; the most is 1

    @property
    def sign(self) -> int:
        """1 where more is better, else -1."""
        return 1 if self.more_is_better else -1


def measures_of(classes: Sequence[str]) -> dict[str, Measure]:
    """All measures by name, with one of each class's recall."""
    recalls = {
        f"recall_{label}": Measure(f"recall of {name}", _recall(label), _of_class(label), share_unseen)
        for label, name in enumerate(classes)
    }
    return {
        "accuracy": Measure("accuracy", _accuracy, _all, share_unseen),
        "balanced_accuracy": Measure("balanced accuracy", _balanced_accuracy, _all, _mean_of_classes),
        "auc": Measure("AUC", _macro_auc, _all, _rarest_class, percent=False),
        **recalls,
        "accuracy_at_threshold": Measure(
            "accuracy at the threshold of validation", _at_threshold, _all, share_unseen
        ),
        "agree": Measure("accuracy where the marker agrees", _agree, _agreeing, share_unseen),
        "conflict": Measure("accuracy where the marker contradicts", _conflict, _contradicting, share_unseen),
        "worst_group": Measure("accuracy of the worst group", _worst_group, _grouped, _smallest_group),
        "calibration_error": Measure(
            "calibration error", _calibration_error, _all, share_unseen, more_is_better=False, percent=False
        ),
        "robust_accuracy": Measure("robust accuracy", _robust_accuracy, _tested, share_unseen),
        "drop": Measure(
            "drop from donors of the same class to any",
            _drop,
            _tested,
            lambda answers, where: 2 * share_unseen(answers, where),  # a patient changes it by up to two
            more_is_better=False,
            least=-1.0,
        ),
    }


def share_unseen(answers: Answers, where: Bits) -> float:
    """The largest share of patients who answer otherwise that none of these may have shown.

    The exact two-sided 95 % bound of Clopper and Pearson (1934) where nothing was seen; patients with several
    samples count as `equal_groups` of `learning/scoring/endpoints.py`. A bootstrap knows nothing of it: where
    no patient's answer has changed, none of its draws' has.

    Args:
        answers: with the patients.
        where: (n,) the samples that tell.
    """
    if not where.any():
        return 1.0
    patients = equal_groups(np.bincount(answers.patients[where]).astype(np.float64))
    return float(1 - ((1 - CONFIDENCE) / 2) ** (1 / patients))


def answers_of(run: Run, numbers: dict[str, int]) -> Answers:
    """A run's answers to the test split; `numbers` of patients is added to."""
    test = run.test
    patients = [numbers.setdefault(group, len(numbers)) for group in test.groups]
    told = test.contradicting
    return Answers(
        test.labels,
        test.probabilities,
        np.array(patients, np.int64),
        None if told is None else np.array([key in told for key in test.keys], bool),
        best_threshold(run.validation),
        None
        if test.exchanged is None
        else np.array([test.exchanged.get(key, _UNTESTED) for key in test.keys], np.float64),
    )


def best_threshold(validation: Predictions) -> float | None:
    """The threshold of class 1 with the highest accuracy on validation; None unless there are two classes.

    Half way between two neighbouring scores, or 0.5 itself; of several equally good ones that next to 0.5.
    """
    if validation.probabilities.shape[1] != 2 or not len(validation.labels):
        return None
    scores, positive = validation.probabilities[:, 1], validation.labels == 1
    seen = np.unique([0.0, *scores, 1.0])
    thresholds = np.array([0.5, *(seen[1:] + seen[:-1]) / 2])
    # Right are the positives above a threshold, and the negatives not above it.
    above = positive.sum() - np.searchsorted(np.sort(scores[positive]), thresholds, "right")
    right = above + np.searchsorted(np.sort(scores[~positive]), thresholds, "right")
    best = thresholds[right == right.max()]
    return float(best[np.abs(best - 0.5).argmin()])


def _all(answers: Answers) -> Bits:
    return np.ones(len(answers.labels), bool)


def _of_class(label: int) -> Callable[[Answers], Bits]:
    return lambda answers: np.asarray(answers.labels == label)


def _contradicting(answers: Answers) -> Bits:
    return np.zeros(len(answers.labels), bool) if answers.contradicting is None else answers.contradicting


def _agreeing(answers: Answers) -> Bits:
    return np.zeros(len(answers.labels), bool) if answers.contradicting is None else ~answers.contradicting


def _grouped(answers: Answers) -> Bits:
    return np.full(len(answers.labels), answers.contradicting is not None)


def _tested(answers: Answers) -> Bits:
    if answers.exchanged is None:
        return np.zeros(len(answers.labels), bool)
    return np.isfinite(answers.exchanged[:, 0])


def _by_class(answers: Answers, where: Bits) -> list[float]:
    return [share_unseen(answers, where & (answers.labels == label)) for label in np.unique(answers.labels)]


def _mean_of_classes(answers: Answers, where: Bits) -> float:
    unseen = _by_class(answers, where)
    return max(unseen) / len(unseen)


def _rarest_class(answers: Answers, where: Bits) -> float:
    return max(_by_class(answers, where))


def _smallest_group(answers: Answers, where: Bits) -> float:
    return max(
        unseen
        for side in (_agreeing(answers), _contradicting(answers))
        for unseen in _by_class(answers, where & side)
    )


def _accuracy(answers: Answers, weights: Floats) -> Floats:
    return answers.share(weights, answers.right, _all(answers))


def _recall(label: int) -> Callable[[Answers, Floats], Floats]:
    return lambda answers, weights: answers.share(weights, answers.right, answers.labels == label)


def _balanced_accuracy(answers: Answers, weights: Floats) -> Floats:
    """The mean of the recalls of the classes that occur."""
    recalls = [_recall(label)(answers, weights) for label in np.unique(answers.labels)]
    return np.asarray(np.mean(recalls, axis=0))


def _at_threshold(answers: Answers, weights: Floats) -> Floats:
    if answers.threshold is None:
        return np.full(len(weights), np.nan)
    right = (answers.probabilities[:, 1] > answers.threshold) == (answers.labels == 1)
    return answers.share(weights, right, _all(answers))


def _agree(answers: Answers, weights: Floats) -> Floats:
    return answers.share(weights, answers.right, _agreeing(answers))


def _conflict(answers: Answers, weights: Floats) -> Floats:
    return answers.share(weights, answers.right, _contradicting(answers))


def _worst_group(answers: Answers, weights: Floats) -> Floats:
    """The lowest accuracy of a class's samples whose marker agrees, or contradicts (Sagawa et al. 2020)."""
    sides = (_agreeing(answers), _contradicting(answers))
    groups = [(answers.labels == label) & side for label in np.unique(answers.labels) for side in sides]
    shares = [answers.share(weights, answers.right, group) for group in groups if group.any()]
    return np.asarray(np.min(shares, axis=0)) if shares else np.full(len(weights), np.nan)


def _calibration_error(answers: Answers, weights: Floats) -> Floats:
    """That of `learning/evaluation/calibration.py`, with weights; chance alone makes it higher."""
    confidence = answers.probabilities.max(axis=1)
    bins = bins_of(confidence)
    gaps = [
        np.abs(answers.weigh(weights, (answers.right - confidence) * (bins == number)))
        for number in np.unique(bins)
    ]
    return np.asarray(np.sum(gaps, axis=0) / answers.weigh(weights, _all(answers)))


def _robust_accuracy(answers: Answers, weights: Floats) -> Floats:
    """Of the shortcut test: accuracy where what is irrelevant is another image's, of any class."""
    return _mean_tested(answers, weights, np.array([0.0, 1.0]))


def _drop(answers: Answers, weights: Floats) -> Floats:
    """How much lower that is than with donors of the same class."""
    return _mean_tested(answers, weights, np.array([1.0, -1.0]))


def _mean_tested(answers: Answers, weights: Floats, factors: Floats) -> Floats:
    where = _tested(answers)
    if answers.exchanged is None or not where.any():
        return np.full(len(weights), np.nan)
    values = np.where(where, (np.nan_to_num(answers.exchanged) * factors).sum(axis=1), 0.0)
    return np.asarray(answers.weigh(weights, values) / answers.weigh(weights, where))


def _macro_auc(answers: Answers, weights: Floats) -> Floats:
    """The area under the ROC curve; of several classes the mean of each one against the rest."""
    present = np.unique(answers.labels)
    if len(present) < 2:
        return np.full(len(weights), np.nan)
    asked = present if answers.probabilities.shape[1] > 2 else present[1:]
    own = weights[:, answers.patients]
    areas = [_auc(own, answers.probabilities[:, label], answers.labels == label) for label in asked]
    return np.asarray(np.mean(areas, axis=0))


def _auc(weights: Floats, scores: Floats, positive: Bits) -> Floats:
    """The weighted chance that a positive scores above a negative, ties counting half, (draws,)."""
    order = np.argsort(scores, kind="stable")
    _, starts = np.unique(scores[order], return_index=True)
    sorted_weights, above_is = weights[:, order], positive[order]
    above = np.add.reduceat(sorted_weights * above_is, starts, axis=1)
    below = np.add.reduceat(sorted_weights * ~above_is, starts, axis=1)
    won = (above * (below.cumsum(axis=1) - below / 2)).sum(axis=1)
    return np.asarray(won / (above.sum(axis=1) * below.sum(axis=1)))
