from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imil_backend.errors import LearningError
from imil_backend.learning.scoring.comparison import Comparison, Finding, compare
from imil_backend.learning.scoring.endpoints import QUANTITIES
from imil_backend.learning.scoring.power import Margins

CLASSES = ("normal", "lesion")


def predictions(correct: np.ndarray, group_size: int = 1) -> dict:
    """Groups of one class and groups of the other in turns, predicted rightly where `correct`."""
    labels = [index // group_size % 2 for index in range(len(correct))]
    return {
        "keys": [f"s{index}" for index in range(len(correct))],
        "groups": [f"g{index // group_size}" for index in range(len(correct))],
        "labels": labels,
        "probabilities": [
            [0.9, 0.1] if right == (label == 0) else [0.2, 0.8]
            for right, label in zip(correct, labels, strict=True)
        ],
    }


def predicting(labels: Sequence[int], predicted: Sequence[int], groups: Sequence[Any] | None = None) -> dict:
    """A split with these labels, on which a version predicts these classes, as surely each time."""
    classes = max(*labels, *predicted) + 1
    return {
        "keys": [f"s{index}" for index in range(len(labels))],
        "groups": [f"g{group}" for group in (range(len(labels)) if groups is None else groups)],
        "labels": list(labels),
        "probabilities": [
            [0.8 if label == own else 0.2 / (classes - 1) for label in range(classes)] for own in predicted
        ],
    }


def finding(comparison: Comparison, metric: str, label: str | None = None) -> Finding:
    (found,) = (each for each in comparison.findings if each.metric == metric and label in {None, each.label})
    return found


def draw(share: float, count: int = 600, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(count) < share


def test_a_better_candidate_is_promoted():
    result = compare(predictions(draw(0.7)), predictions(draw(0.9, seed=1)))
    assert result.verdict == "promote"
    assert 0 < result.lower < result.difference < result.upper
    assert (result.samples, result.groups) == (600, 600)


def test_an_equal_candidate_is_promoted():
    result = compare(predictions(draw(0.8)), predictions(draw(0.8)))
    # Had one group in 201 got worse, 600 of them would show none with a chance of 5 %.
    assert (result.verdict, result.difference) == ("promote", 0)
    assert result.lower == pytest.approx(-(1 - 0.05 ** (1 / 600)))


def test_a_worse_candidate_is_rejected():
    assert compare(predictions(draw(0.9)), predictions(draw(0.7, seed=1))).verdict == "reject"


def test_noise_is_undecided():
    champion = draw(0.8)
    candidate = champion.copy()
    candidate[::12] ^= True
    result = compare(predictions(champion[:200]), predictions(candidate[:200]))
    assert result.verdict == "undecided"
    assert "neither shown nor excluded" in result.reason


def test_a_small_split_is_undecided_even_without_a_difference():
    result = compare(predictions(draw(0.8, 100)), predictions(draw(0.8, 100)))
    assert result.verdict == "undecided"
    assert "100 groups" in result.reason and "149" in result.reason


def test_a_disaster_is_rejected_even_on_a_small_split():
    assert compare(predictions(draw(1.0, 40)), predictions(draw(0.2, 40))).verdict == "reject"


def test_groups_are_drawn_not_samples():
    champion, candidate = predictions(draw(0.8)), predictions(draw(0.8, seed=1))
    together = [predictions(np.repeat(draw(0.8, 300, seed), 4), 4) for seed in (0, 1)]
    alone = compare(champion, candidate)
    grouped = compare(*together)
    assert grouped.groups == 300
    assert grouped.samples == 1200
    assert grouped.upper - grouped.lower > alone.upper - alone.lower


def test_equal_seeds_give_equal_bounds():
    pair = predictions(draw(0.8)), predictions(draw(0.8, seed=1))
    assert compare(*pair) == compare(*pair)
    assert compare(*pair).lower != compare(*pair, seed=1).lower


def test_only_shared_samples_count():
    candidate = predictions(draw(0.9))
    half = {name: values[300:] for name, values in predictions(draw(0.8)).items()}
    assert compare(half, candidate).samples == 300
    nothing = {**half, "keys": [f"other-{index}" for index in range(300)]}
    assert compare(nothing, candidate).verdict == "undecided"


def test_a_changed_label_is_an_error():
    candidate = predictions(draw(0.9))
    candidate["labels"][5] = 0
    with pytest.raises(LearningError, match="s5"):
        compare(predictions(draw(0.9)), candidate)


# --- every class


@pytest.mark.slow
def test_a_candidate_that_no_longer_finds_the_rare_class_is_rejected_though_its_accuracy_holds() -> None:
    labels = [1] * 40 + [0] * 1960
    champion = [1] * 25 + [0] * 15 + [1] * 10 + [0] * 1950
    result = compare(predicting(labels, champion), predicting(labels, [0] * 2000), classes=CLASSES)
    assert result.difference == pytest.approx(-0.0075)
    assert finding(result, "accuracy").state == "not worse"  # which was all that was asked once
    lesion = finding(result, "recall", "lesion")
    assert (lesion.state, lesion.champion, lesion.candidate) == ("worse", 0.625, 0.0)
    assert (lesion.groups, lesion.groups_worse, lesion.groups_better) == (40, 25, 0)
    assert result.verdict == "reject"
    assert "Recall of lesion went from 0.625 to 0.000" in result.reason
    assert "got worse: 25, better: 0" in result.reason


def test_a_class_of_too_few_groups_leaves_it_undecided_and_is_named() -> None:
    labels = [1] * 20 + [0] * 580
    same = predicting(labels, labels)
    result = compare(same, same, classes=CLASSES)
    assert result.verdict == "undecided"
    assert "20 groups with lesion cannot exclude a loss of 0.100 in its recall; 29 could." in result.reason
    assert "20 groups with lesion cannot exclude a loss of 0.050 in AUC; 59 could." in result.reason
    assert "accuracy" not in result.reason
    assert compare(same, same, margins=Margins({"recall": 0.14, "auc": 0.14})).verdict == "promote"


def test_a_class_that_does_not_occur_leaves_it_undecided_and_is_named() -> None:
    labels = [0, 1] * 300
    split = predicting(labels, labels)
    split["probabilities"] = [[*row, 0.0] for row in split["probabilities"]]
    result = compare(split, split, classes=("normal", "lesion", "tube"))
    assert result.verdict == "undecided"
    assert result.reason == "The validation split has no sample of tube, and says nothing about its recall."
    assert finding(result, "recall", "tube").champion is None


def test_one_class_alone_has_no_auc_and_is_undecided() -> None:
    split = predicting([0] * 300, [0] * 300)
    split["probabilities"] = [[0.8, 0.2]] * 300
    result = compare(split, split, classes=CLASSES)
    assert result.verdict == "undecided"
    assert [each.metric for each in result.findings] == ["accuracy", "recall", "recall"]


@pytest.mark.slow
def test_each_of_many_classes_is_looked_at() -> None:
    labels = [index % 5 for index in range(1000)]
    candidate = [0 if label == 3 and index % 2 else label for index, label in enumerate(labels)]
    result = compare(predicting(labels, labels), predicting(labels, candidate))
    assert result.verdict == "reject"
    assert [each.label for each in result.findings if each.metric == "recall" and each.state == "worse"] == [
        "class 3"
    ]


def test_a_candidate_whose_ranking_is_lost_is_not_promoted_though_its_answers_are_the_same() -> None:
    labels = [0, 1] * 300
    sure, blurred = predicting(labels, labels), predicting(labels, labels)
    # Wrong about the same tenth; but the champion is less sure there, and the candidate surer.
    for index in range(0, 60):
        sure["probabilities"][index] = [0.49, 0.51] if labels[index] == 0 else [0.51, 0.49]
        blurred["probabilities"][index] = [0.0, 1.0] if labels[index] == 0 else [1.0, 0.0]
    result = compare(sure, blurred, classes=CLASSES)
    assert result.difference == 0
    assert finding(result, "auc").state == "worse"
    assert result.verdict == "reject"


def test_a_candidate_that_answers_with_no_numbers_is_an_error() -> None:
    labels = [0, 1] * 300
    champion, broken = predicting(labels, labels), predicting(labels, labels)
    # NaN is the highest of a row, so that these would be right by chance.
    broken["probabilities"][4] = [float("nan")] * 2
    with pytest.raises(LearningError, match=r"s4 .*not numbers"):
        compare(champion, broken)


@st.composite
def comparisons(draw: st.DrawFn) -> tuple[dict, dict, Margins]:
    """Two versions on groups of unlike sizes, with up to four classes, of any frequency."""
    classes = draw(st.integers(2, 4))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.integers(1, 700))
    frequency = random.dirichlet(np.ones(classes) * draw(st.sampled_from([0.3, 1.0, 10.0])))
    labels = random.choice(classes, count, p=frequency)
    groups = random.integers(0, max(1, int(count / draw(st.sampled_from([0.5, 1, 4])))), count)
    versions = []
    for _ in range(2):
        wrong = random.random(count) < random.random(classes)[labels] ** draw(st.integers(1, 30))
        predicted = np.where(wrong, random.integers(0, classes, count), labels)
        versions.append(predicting(labels.tolist(), predicted.tolist(), groups.tolist()))
        width = [[*row, *[0.0] * (classes - len(row))] for row in versions[-1]["probabilities"]]
        versions[-1]["probabilities"] = width
    margins = Margins({name: draw(st.sampled_from([0.02, 0.1, 0.3])) for name in QUANTITIES})
    return versions[0], versions[1], margins


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(comparisons())
def test_no_candidate_that_loses_a_class_is_promoted(drawn: tuple[dict, dict, Margins]) -> None:
    champion, candidate, margins = drawn
    result = compare(champion, candidate, margins=margins, resamples=200)
    labels = np.array(champion["labels"])
    for label in range(len(champion["probabilities"][0])):
        own = labels == label
        before, after = (
            (np.array(each["probabilities"])[own].argmax(axis=1) == label).sum()
            for each in (champion, candidate)
        )
        if not own.any() or (after - before) / own.sum() <= -margins.of("recall"):
            assert result.verdict != "promote"
    if (labels[:, None] == labels).all():
        assert result.verdict != "promote"
    for each in result.findings:
        assert each.lower <= each.difference <= each.upper
        if result.verdict == "promote":
            assert each.lower > -each.margin


# --- too few groups to say no


def test_three_changed_images_reject_nobody() -> None:
    groups = [index // 2 for index in range(36)]
    labels = [index // 2 % 2 for index in range(36)]
    candidate = [1 - label if index in {0, 7, 13} else label for index, label in enumerate(labels)]
    result = compare(
        predicting(labels, labels, groups), predicting(labels, candidate, groups), classes=CLASSES
    )
    accuracy = finding(result, "accuracy")
    assert (accuracy.groups, accuracy.groups_worse, accuracy.groups_better) == (18, 3, 0)
    assert accuracy.p >= 0.125  # the exact sign test's, before the correction
    assert result.verdict == "undecided"
    assert "18 groups cannot exclude a loss of 0.020 in accuracy; 149 could." in result.reason


@pytest.mark.parametrize("seed", range(8))
def test_a_rejection_rests_on_the_exact_test_whatever_is_drawn(seed: int) -> None:
    labels = [0, 1] * 30
    four, nine = (
        [1 - label if index < lost else label for index, label in enumerate(labels)] for lost in (4, 9)
    )
    champion = predicting(labels, labels)
    # Of 4 groups all get worse with a chance of 1/16, of 9 with one of 1/512; and four things are asked.
    assert compare(champion, predicting(labels, four), seed=seed).verdict == "undecided"
    assert compare(champion, predicting(labels, nine), seed=seed).verdict == "reject"


def test_groups_of_unlike_sizes_count_as_fewer() -> None:
    labels = [0, 1] * 200 + [0] * 100 + [1] * 100
    groups = [*range(400), *[400] * 100, *[401] * 100]
    same = predicting(labels, labels, groups)
    result = compare(same, same, classes=CLASSES)
    assert result.verdict == "undecided"
    assert "402 groups of unlike sizes, which count as 17, cannot exclude" in result.reason
