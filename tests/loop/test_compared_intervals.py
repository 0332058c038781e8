"""Paired intervals over seeds and patients, computed anew in plain loops with scikit-learn."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from compared import answers_to, some_predictions
from scipy import stats
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from imil_backend.errors import ComparisonError
from imil_backend.loop.comparing.statistics.measures import Answers, measures_of
from imil_backend.loop.comparing.statistics.paired import Paired

MEASURES = measures_of(["normal", "sick"])


def arms_of(*skills: float, seeds: int = 3) -> dict[str, list[Answers]]:
    """Arms a, b, ... of these skills."""
    return {
        name: [answers_to(some_predictions(skill, seed=10 * place + seed)) for seed in range(seeds)]
        for place, (name, skill) in enumerate(zip("abc", skills, strict=False))
    }


def by_scikit_learn(measure: str, answers: Answers, weights: np.ndarray) -> float:
    """A measure by scikit-learn, with the weight of each sample."""
    own = weights[answers.patients]
    said = answers.probabilities.argmax(axis=1)
    if measure == "auc":
        return float(roc_auc_score(answers.labels, answers.probabilities[:, 1], sample_weight=own))
    score = accuracy_score if measure == "accuracy" else balanced_accuracy_score
    return float(score(answers.labels, said, sample_weight=own))


@pytest.mark.slow
@pytest.mark.parametrize("measure", ["accuracy", "balanced_accuracy", "auc"])
def test_loops_over_seeds_patients_and_draws_find_the_same_interval(measure: str):
    arms, draws = arms_of(0.6, 1.4), 80
    found = Paired(arms, MEASURES, draws=draws, seed=5).difference("b", "a", measure)
    assert found is not None

    random = np.random.default_rng(5)
    weights = random.exponential(size=(draws, 60))
    seeds = random.multinomial(2, [1 / 3] * 3, draws) / 2
    changes = []
    for draw in range(draws):
        change = 0.0
        for seed in range(3):
            after, before = (by_scikit_learn(measure, arms[arm][seed], weights[draw]) for arm in "ba")
            change += seeds[draw][seed] * (after - before)
        changes.append(change)
    by_seed = [
        by_scikit_learn(measure, arms["b"][seed], np.ones(60))
        - by_scikit_learn(measure, arms["a"][seed], np.ones(60))
        for seed in range(3)
    ]
    of_seeds = statistics.variance(by_seed) / 3
    of_patients = max(statistics.pvariance(changes) - of_seeds, 0)
    freedom = (of_seeds + of_patients) ** 2 / (of_seeds**2 / 2 + of_patients**2 / 59)
    half = stats.t(freedom).ppf(0.975) * statistics.pstdev(changes)
    value = statistics.fmean(by_seed)
    assert found.by_seed == pytest.approx(tuple(by_seed))
    assert found.value == pytest.approx(value)
    assert (found.lower, found.upper) == pytest.approx((value - half, value + half))


def test_other_draws_give_nearly_the_same_interval():
    arms = arms_of(0.6, 1.4, seeds=5)
    one, other = (Paired(arms, MEASURES, seed=seed).difference("b", "a", "accuracy") for seed in (1, 2))
    assert one is not None and other is not None and one.value == other.value
    width = one.upper - one.lower
    assert abs(one.lower - other.lower) < 0.1 * width and abs(one.upper - other.upper) < 0.1 * width


def test_intervals_of_seeds_alone_are_those_of_students_t():
    """So many patients that nothing but the seeds is chance."""
    rates = [0.62, 0.70, 0.66, 0.84]
    samples = 20_000

    def answers(right: float) -> Answers:
        labels, rows = np.arange(samples) % 2, np.arange(samples)
        positive = np.where(rows < samples * right, labels, 1 - labels).astype(np.float64)
        return Answers(labels, np.stack([1 - positive, positive], axis=1), rows)

    arms = {"reference": [answers(0.6)] * 4, "arm": [answers(rate) for rate in rates]}
    found = Paired(arms, MEASURES, draws=1000).difference("arm", "reference", "accuracy")
    expected = stats.t.interval(0.95, 3, np.mean(rates) - 0.6, stats.sem(rates))
    assert found is not None
    assert (found.lower, found.upper) == pytest.approx(expected, abs=0.02)


def test_where_no_answer_has_changed_other_patients_may_still_show_a_change():
    arms = arms_of(0.6)
    found = Paired({"a": arms["a"], "same": arms["a"]}, MEASURES).difference("same", "a", "accuracy")
    nothing = stats.binomtest(0, 60).proportion_ci(0.95, "exact").high  # of 60 patients
    assert found is not None
    assert (found.value, found.lower, found.upper) == pytest.approx((0, -nothing, nothing))


def test_a_single_seed_has_an_interval_over_patients_alone():
    found = Paired(arms_of(0.6, 1.4, seeds=1), MEASURES).difference("b", "a", "accuracy")
    assert found is not None and found.lower < found.value < found.upper


def test_all_of_what_is_lacking_is_regained_by_the_cure_and_nothing_by_the_reference():
    paired = Paired(arms_of(0.3, 2.5), MEASURES)
    full, none = (paired.regained(arm, "a", "b", "accuracy") for arm in "ba")
    assert full is not None and none is not None
    assert (full.value, full.lower, full.upper) == pytest.approx((1, 1, 1))
    assert (none.value, none.lower, none.upper) == pytest.approx((0, 0, 0))


def test_no_share_is_told_of_a_gap_that_may_be_nothing():
    assert Paired(arms_of(0.6, 0.6), MEASURES).regained("b", "a", "b", "accuracy") is None


def test_what_is_not_defined_has_no_estimate():
    arms = {"a": [answers_to(some_predictions(1.0, leaning=None))]}
    paired = Paired(arms, MEASURES)
    assert paired.estimate("a", "conflict") is None
    assert math.isclose(paired.estimate("a", "accuracy").value, arms["a"][0].right.mean())  # type: ignore[union-attr]


@pytest.mark.parametrize("other", [{"seeds": 2}, {"samples": 100}, {"split": 1}])
def test_arms_that_were_tried_on_something_else_are_refused(other: dict[str, int]):
    seeds = other.pop("seeds", 3)
    changed = [answers_to(some_predictions(1.0, seed=seed, **other)) for seed in range(seeds)]
    with pytest.raises(ComparisonError, match="the same samples and seeds"):
        Paired({**arms_of(1.0), "b": changed}, MEASURES)
