"""Promotion: unchanged images, exchanged ones, or both. By numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.verdict import Network, Setting, verdicts
from imil_backend.learning.scoring.bounds import bounds_of_mean
from imil_backend.learning.scoring.comparison import Comparison, compare
from imil_backend.learning.scoring.power import Margins
from imil_backend.learning.scoring.robustness import robustness_of

COUNT = 600
CLASSES = ("normal", "lesion")
LABELS = [index % 2 for index in range(COUNT)]
NAMES = {"keys": list(range(COUNT)), "groups": list(range(COUNT)), "labels": LABELS}


def version(wrong: set[int]) -> dict[str, Any]:
    """Predictions that are right but for these samples, as sure each time."""
    rows = [
        [0.9, 0.1] if (label == 0) != (index in wrong) else [0.1, 0.9] for index, label in enumerate(LABELS)
    ]
    return {**NAMES, "probabilities": rows}


def exchanged(champion: float, candidate: float, classes: tuple[int, ...] = (0, 1)) -> dict[str, Any]:
    """A shortcut test in which this share of samples is answered rightly in all draws, the others in half."""
    some = [index for index in range(COUNT) if LABELS[index] in classes]
    shares = {
        name: {"any_class": [1.0 if index < share * COUNT else 0.5 for index in some]}
        for name, share in (("parent", champion), ("candidate", candidate))
    }
    names = {name: [values[index] for index in some] for name, values in NAMES.items()}
    return {**names, **shares}


def judged(
    lost: int = 0, won: int = 0, test: dict[str, Any] | None = None, judge: Any = "both", **settings: Any
) -> Comparison:
    """A champion wrong in 60 of 600, against one that lost some of the others and won some of these."""
    champion = version(set(range(60)))
    candidate = version(set(range(won, 60)) | set(range(100, 100 + lost)))
    return compare(champion, candidate, shortcut=test, judge=judge, classes=CLASSES, **settings)


@pytest.mark.slow
def test_without_a_shortcut_test_both_is_plain_and_robust_says_nothing() -> None:
    for lost, won in ((0, 0), (0, 20), (12, 0), (60, 0)):
        both, plain = (judged(lost, won, judge=judge) for judge in ("both", "plain"))
        assert replace(both, judge="plain") == plain
        assert judged(lost, won, exchanged(0.5, 1.0), judge="plain") == plain
    nothing = judged(won=20, judge="robust")
    assert (nothing.verdict, nothing.findings) == ("undecided", [])
    assert "--judge plain" in nothing.reason


def test_a_cure_that_costs_nothing_is_promoted_for_its_gain() -> None:
    result = judged(test=exchanged(0.4, 0.7))
    assert result.verdict == "promote"
    assert result.reason.startswith(
        "The candidate is better: robust accuracy rose from 0.700 to 0.850. With 95%"
    )
    assert "robust accuracy rose by 0.133 at least" in result.reason
    assert [each.metric for each in result.findings] == [
        "accuracy", "recall", "recall", "auc", "robust_accuracy",
    ]  # fmt: skip
    assert (result.difference, result.findings[-1].difference) == (0, pytest.approx(0.15))


def test_an_equal_candidate_is_promoted_by_one_and_not_by_both() -> None:
    assert judged(test=exchanged(0.5, 0.5), judge="plain").verdict == "promote"
    assert judged(test=exchanged(0.5, 0.5), judge="robust").verdict == "promote"
    result = judged(test=exchanged(0.5, 0.5))
    assert result.verdict == "undecided"
    assert result.reason == (
        "The candidate is not worse by a margin or more in anything, and is not shown to be better: +0.0 "
        "points on unchanged images, +0.0 points when markers no longer tell the class."
    )
    assert judged(won=20, test=exchanged(0.5, 0.5)).verdict == "promote"


def test_a_trade_is_left_to_a_person_and_named() -> None:
    worse = judged(lost=60, test=exchanged(0.4, 0.7))
    assert worse.verdict == "undecided"
    assert worse.reason.startswith(
        "-10.0 points on unchanged images, +15.0 points when markers no longer tell the class. Accuracy "
        "went from 0.900 to 0.800"
    )
    perhaps = judged(lost=7, test=exchanged(0.4, 0.7))
    assert perhaps.verdict == "undecided"
    assert perhaps.reason.startswith("-1.2 points on unchanged images, +15.0 points when")
    assert "a loss of 0.020 is neither shown nor excluded" in perhaps.reason
    leaning = judged(won=40, test=exchanged(0.7, 0.5))
    assert leaning.verdict == "undecided"
    assert leaning.reason.startswith("+6.7 points on unchanged images, -10.0 points when")


def test_what_loses_on_one_side_and_gains_on_none_is_rejected() -> None:
    for result in (
        judged(lost=60, test=exchanged(0.5, 0.5)),
        judged(test=exchanged(0.7, 0.5)),
        judged(lost=60, test=exchanged(0.7, 0.5)),
    ):
        assert result.verdict == "reject"
        assert "after Holm's correction for 5 comparisons" in result.reason


def test_a_lost_class_is_a_trade_only_against_robust_accuracy() -> None:
    champion = version(set(range(0, 120)))
    lost = version(set(range(1, 200, 2)))  # normal is found more often, and lesion less
    test = exchanged(0.5, 0.5)
    result = compare(champion, lost, shortcut=test, classes=CLASSES)
    assert (result.verdict, result.findings[0].difference > 0) == ("reject", True)
    assert "Recall of lesion" in result.reason
    cured = compare(champion, lost, shortcut=exchanged(0.2, 0.8), classes=CLASSES)
    assert cured.verdict == "undecided"
    assert "+30.0 points when markers no longer tell the class. Recall of lesion went from" in cured.reason


def test_robust_looks_at_every_class_under_exchange_and_at_nothing_else() -> None:
    result = judged(lost=60, test=exchanged(0.4, 0.7), judge="robust")
    assert result.verdict == "promote"  # though unchanged images tell of a loss
    assert [each.metric for each in result.findings] == ["robust_accuracy", "robust_recall", "robust_recall"]
    assert "robust recall of" in result.reason
    assert (result.judge, result.samples, result.margin) == ("robust", 600, 0.02)
    halved = judged(test=exchanged(0.4, 0.7, classes=(1,)), judge="robust")
    assert halved.verdict == "undecided"
    assert halved.reason == (
        "The validation split has no sample with a known irrelevant part of normal, and says nothing "
        "about its "
        "robust recall."
    )
    few = {
        **{name: values[:100] for name, values in NAMES.items()},
        **{name: {"any_class": [0.5] * 100} for name in ("parent", "candidate")},
    }
    assert (
        "100 groups cannot exclude a loss of 0.020 in robust accuracy; 149 could" in judged(test=few).reason
    )


def test_what_has_risen_is_not_worse_however_few_groups_show_it() -> None:
    """100 groups with a known irrelevant part: 149 would be needed if nothing had changed."""
    risen = {
        **{name: values[:100] for name, values in NAMES.items()},
        **{name: {"any_class": [share] * 100} for name, share in (("parent", 0.5), ("candidate", 1.0))},
    }
    found = next(each for each in judged(test=risen).findings if each.metric == "robust_accuracy")
    assert (found.groups, found.state) == (100, "not worse")
    assert found.reason.startswith("robust accuracy rose by 0.4")


@pytest.mark.slow
def test_the_bounds_of_a_mean_are_exact_where_all_are_right() -> None:
    lower, upper = bounds_of_mean(np.ones(59), [str(each) for each in range(59)], resamples=40_000)
    assert lower == pytest.approx(0.05 ** (1 / 59), abs=0.002)
    assert upper == 1
    lower, upper = bounds_of_mean(np.zeros(59), [str(each) for each in range(59)], least=-1, resamples=40_000)
    assert (-lower, upper) == (
        pytest.approx(1 - 0.05 ** (1 / 59), abs=0.002),
        pytest.approx(-lower, abs=0.002),
    )


@pytest.mark.slow
def test_bounds_hold_by_group_with_the_confidence_that_is_named() -> None:
    random = np.random.default_rng(0)
    missed = 0
    for number in range(300):
        skill = random.beta(4, 1, 60)  # of each of 60 groups of three, true mean 0.8
        right = random.binomial(10, np.repeat(skill, 3)) / 10
        groups = [str(each) for each in np.repeat(np.arange(60), 3)]
        lower, upper = bounds_of_mean(right, groups, resamples=200, seed=number)
        missed += (lower > 0.8) + (upper < 0.8)
    assert missed / 600 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 600)
    drop = robustness_of(np.ones(4), np.zeros(4), ["a", "a", "b", "b"]).drop
    assert (drop.value, drop.upper) == (1.0, 1.0)
    assert drop.lower < 0.5


# --- errors, by simulation: `python -m benchmarks.verdict` has more of it

MARGINS = Margins({"accuracy": 0.05, "robust_accuracy": 0.05, "recall": 0.2, "auc": 0.1})  # 200 groups can


def test_simulated_networks_have_the_accuracies_they_are_named_for() -> None:
    network = Network.of(0.90, 0.70)
    random = np.random.default_rng(0)
    seen, marker = random.standard_normal(200_000), np.where(random.random(200_000) < 0.95, 1, -1)
    assert (network.skill + network.push * marker + seen > 0).mean() == pytest.approx(0.90, abs=0.003)
    even = np.where(random.random(200_000) < 0.5, 1, -1)
    assert (network.skill + network.push * even + seen > 0).mean() == pytest.approx(0.70, abs=0.004)


@pytest.mark.slow
@pytest.mark.parametrize(
    "setting",
    [
        Setting("nothing changed", 0.0, 0.0, 200),
        Setting("accuracy at its margin", -0.05, 0.14, 200),
        Setting("robust accuracy at its margin", 0.05, -0.05, 200, champion=(0.90, 0.80)),
    ],
    ids=lambda setting: setting.about,
)
def test_a_candidate_that_must_not_be_promoted_is_promoted_once_in_twenty_at_most(setting: Setting) -> None:
    repetitions = 200
    promoted = verdicts(setting, repetitions, margins=MARGINS, resamples=300)["promote"]
    # At 5 % so many would be exceeded with a chance of 1 in 1,000.
    assert promoted / repetitions < 0.05 + 3.1 * math.sqrt(0.05 * 0.95 / repetitions)


@pytest.mark.slow
def test_one_that_should_be_promoted_mostly_is() -> None:
    setting = Setting("cured", 0.01, 0.14, 200)
    assert verdicts(setting, 60, margins=MARGINS, resamples=300)["promote"] > 36
