"""What may be claimed of arms, and how often nothing is claimed where there is nothing."""

from __future__ import annotations

import itertools
import statistics

import numpy as np
import pytest
from compared import answers_to, some_predictions
from scipy import stats
from sklearn.metrics import roc_auc_score
from statsmodels.stats.multitest import multipletests

from benchmarks.null import simulate
from imil_backend.learning.scoring.bounds import corrected
from imil_backend.loop.comparing.statistics.claims import Claim, claims
from imil_backend.loop.comparing.statistics.delong import delong
from imil_backend.loop.comparing.statistics.measures import Answers, measures_of
from imil_backend.loop.comparing.statistics.paired import Paired
from imil_backend.loop.comparing.statistics.significance import seeds_needed, sign_flip, smallest_p

MEASURES = measures_of(["normal", "sick"])


def claimed(*skills: float, seeds: int, margin: float = 0.02, measure: str = "accuracy") -> list[Claim]:
    """Of arms with these skills, the first of which is the reference."""
    arms = {
        f"arm {place}": [
            answers_to(some_predictions(skill, seed=place + 10 * seed, samples=400)) for seed in range(seeds)
        ]
        for place, skill in enumerate(skills)
    }
    comparisons = [(name, "arm 0") for name in arms if name != "arm 0"]
    return claims(Paired(arms, MEASURES, draws=500), comparisons, measure, MEASURES[measure], margin)


def test_flipping_signs_is_exact_for_few_seeds():
    differences = [0.03, 0.01, -0.005, 0.02, 0.04, 0.015, 0.0]
    seen = abs(statistics.fmean(differences))
    flipped = [
        abs(statistics.fmean(sign * each for sign, each in zip(signs, differences, strict=True)))
        for signs in itertools.product([1, -1], repeat=len(differences))
    ]
    expected = sum(each >= seen - 1e-12 for each in flipped) / len(flipped)
    assert sign_flip(differences) == pytest.approx(expected)


@pytest.mark.parametrize("seeds", [2, 3, 5, 8, 10])
def test_the_smallest_p_is_that_of_seeds_that_all_agree(seeds: int):
    assert sign_flip([0.1 + 0.01 * seed for seed in range(seeds)]) == pytest.approx(smallest_p(seeds))


def test_a_single_seed_and_equal_arms_show_nothing():
    assert sign_flip([0.5]) == 1
    assert sign_flip([0.0] * 8) == 1


def test_five_seeds_cannot_show_anything_and_ten_can_in_thirteen_comparisons():
    assert [seeds_needed(comparisons) for comparisons in (1, 2, 13)] == [6, 7, 10]
    assert smallest_p(5) > 0.05 > 13 * smallest_p(10)


def test_holms_correction_is_that_of_statsmodels():
    chances = [0.01, 0.04, 0.03, 0.005, 0.5]
    assert corrected(chances) == pytest.approx(list(multipletests(chances, method="holm")[1]))


@pytest.mark.slow
def test_a_clear_gain_and_a_clear_loss_are_claimed_with_enough_seeds():
    better, worse, same = claimed(1.0, 2.0, 0.2, 1.0, seeds=8)
    assert (better.state, worse.state) == ("better", "worse")
    assert better.p is not None and better.p < 0.05
    assert same.state in {"alike", "undecided"}


def test_with_few_seeds_a_clear_gain_is_suggested_and_no_p_is_given():
    (gain,) = claimed(1.0, 2.0, seeds=5)
    assert gain.state == "undecided" and gain.suggested and gain.p is None


def test_of_a_measure_in_which_less_is_better_a_rise_is_worse():
    (change,) = claimed(2.5, 0.2, seeds=7, measure="calibration_error")
    rose = change.difference.lower > 0
    assert change.state == ("worse" if rose else "better")


def test_arms_within_the_margin_are_alike():
    (same,) = claimed(1.0, 1.0, seeds=7, margin=0.2)
    assert same.state == "alike" and not same.suggested


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "arms"), [(8, 1), (10, 3)])
def test_a_null_comparison_claims_nothing_in_95_of_100_repetitions(seeds: int, arms: int):
    found = simulate(200, seeds, arms, patients=120)
    assert found.claimed <= 0.05
    assert found.covered >= 0.9


@pytest.mark.slow
def test_what_is_there_is_found():
    assert simulate(20, 8, arms=1, patients=120, gain=0.8).claimed >= 0.9


def kernel(answers: Answers) -> tuple[float, np.ndarray, np.ndarray]:
    """AUC and components of positives and negatives, pair by pair."""
    scores, labels = answers.probabilities[:, 1], answers.labels
    wins = np.array(
        [
            [1.0 if high > low else 0.5 if high == low else 0.0 for low in scores[labels == 0]]
            for high in scores[labels == 1]
        ]
    )
    return float(wins.mean()), wins.mean(axis=1), wins.mean(axis=0)


def alone(answers: Answers) -> Answers:
    """Every sample a patient of its own; with ties."""
    return Answers(answers.labels, answers.probabilities.round(2), np.arange(len(answers.labels)))


def test_delong_is_that_of_all_pairs_of_samples():
    first, second = (alone(answers_to(some_predictions(skill, seed=3))) for skill in (0.6, 1.2))
    found = delong([(first, second)])
    (before, *old), (after, *new) = kernel(first), kernel(second)
    covariances = [np.cov(was, now) for was, now in zip(old, new, strict=True)]
    variance = sum((each[0, 0] + each[1, 1] - 2 * each[0, 1]) / count for each, count in zip(
        covariances, (len(old[0]), len(old[1])), strict=True
    ))  # fmt: skip
    assert found is not None
    assert found.value == pytest.approx(after - before)
    assert found.value == pytest.approx(
        roc_auc_score(second.labels, second.probabilities[:, 1])
        - roc_auc_score(first.labels, first.probabilities[:, 1])
    )
    assert found.standard_error == pytest.approx(np.sqrt(variance))
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(after - before) / np.sqrt(variance)))


def test_delong_of_patients_with_several_samples_is_near_the_jackknife_over_patients():
    pairs = [
        tuple(answers_to(some_predictions(skill, seed=seed, samples=160)) for skill in (0.6, 1.2))
        for seed in (1, 2)
    ]
    found = delong(pairs)  # type: ignore[arg-type]
    assert found is not None

    def without(patient: int | None) -> float:
        areas = [
            [
                roc_auc_score(each.labels[kept], each.probabilities[kept, 1])
                for each in pair
                for kept in [each.patients != patient]
            ]
            for pair in pairs
        ]
        return float(np.mean([after - before for before, after in areas]))

    values = np.array([without(patient) for patient in range(80)])
    jackknife = np.sqrt(79 / 80 * ((values - values.mean()) ** 2).sum())
    assert found.value == pytest.approx(without(None))
    assert found.standard_error == pytest.approx(jackknife, rel=0.05)


def test_delong_of_several_classes_is_the_mean_of_each_against_the_rest():
    first, second = (answers_to(some_predictions(skill, classes=3)) for skill in (0.5, 1.5))
    found = delong([(first, second)])
    areas = [
        np.mean(
            [
                roc_auc_score(each.labels == label, each.probabilities[:, label])
                for label in range(3)
            ]
        )
        for each in (first, second)
    ]  # fmt: skip
    assert found is not None and found.value == pytest.approx(areas[1] - areas[0])


def test_delong_of_the_same_network_or_of_one_class_says_nothing():
    answers = answers_to(some_predictions(1.0))
    same = delong([(answers, answers)])
    assert same is not None and (same.value, same.p) == (0, 1)
    only = Answers(np.zeros(10, np.int64), np.full((10, 2), 0.5), np.arange(10))
    assert delong([(only, only)]) is None
