"""What predictions show of one version: estimates, curves, calibration."""

from __future__ import annotations

import math

import numpy as np
import pytest

from imil_backend.learning.evaluation.calibration import expected_calibration_error, reliability_of
from imil_backend.learning.evaluation.curves import precision_recall_curve, roc_curve
from imil_backend.learning.evaluation.estimates import Estimate, estimates_of
from imil_backend.learning.evaluation.evaluation import Evaluation, Predicted, confusion_matrix, evaluate
from imil_backend.learning.scoring.metrics import compute_metrics


def predictions(seed: int = 0, samples: int = 300, classes: int = 2, groups: int = 60) -> Predicted:
    """Somewhat right, with equal scores among them."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, samples)
    scores = np.round(random.random((samples, classes)) + 0.4 * np.eye(classes)[labels], 1) + 0.01
    return Predicted(
        scores / scores.sum(axis=1, keepdims=True),
        labels,
        [str(each) for each in random.integers(0, groups, samples)],
    )


def by_name(estimates: list[Estimate]) -> dict[tuple[str, int | None], Estimate]:
    return {(each.metric, each.label): each for each in estimates}


@pytest.mark.parametrize("classes", [2, 4])
def test_estimates_are_the_metrics_within_their_intervals(classes: int) -> None:
    found = predictions(classes=classes)
    estimates = by_name(estimates_of(found.probabilities, found.labels, found.groups))
    metrics = compute_metrics(found.probabilities, found.labels)
    for name in ("accuracy", "balanced_accuracy", "auc"):
        each = estimates[name, None]
        assert each.value == metrics[name]
        assert 0 <= each.lower < each.value < each.upper <= 1
        assert each.upper - each.lower < 0.25
        assert each.groups == len(set(found.groups))
    right = found.probabilities.argmax(axis=1) == found.labels
    for label in range(classes):
        own = found.labels == label
        assert estimates["recall", label].value == right[own].mean()
        assert estimates["recall", label].samples == own.sum()


def test_an_interval_of_what_was_never_wrong_is_that_of_clopper_and_pearson() -> None:
    labels = np.arange(40) % 2
    estimates = estimates_of(np.eye(2)[labels], labels, [str(each) for each in range(40)], resamples=40_000)
    accuracy = by_name(estimates)["accuracy", None]
    assert accuracy.upper == 1
    assert accuracy.lower == pytest.approx(0.025 ** (1 / 40), abs=0.004)


def test_an_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    """60 groups of two samples that are right or wrong together, right with a chance of 0.8."""
    random = np.random.default_rng(1)
    labels = np.arange(120) % 2
    groups = [str(number // 2) for number in range(120)]
    held = 0
    for _ in range(100):
        right = np.repeat(random.random(60) < 0.8, 2)
        said = np.where(right, labels, 1 - labels)
        accuracy = estimates_of(np.eye(2)[said], labels, groups, resamples=300)[0]
        held += accuracy.lower <= 0.8 <= accuracy.upper
    assert 0.9 <= held / 100 <= 1


def test_of_one_class_there_is_no_auc() -> None:
    estimates = estimates_of(np.full((6, 2), 0.5), np.zeros(6, np.int64), list("aabbcc"))
    assert ("auc", None) not in by_name(estimates)
    assert ("recall", 1) not in by_name(estimates)


def test_a_roc_curve_rises_within_its_band_and_its_area_is_the_auc() -> None:
    found = predictions()
    curve = roc_curve(found.probabilities[:, 1], found.labels == 1, found.groups)
    assert curve.area == pytest.approx(compute_metrics(found.probabilities, found.labels)["auc"])
    assert (np.diff(curve.y) >= 0).all()
    assert ((curve.lower <= curve.y) & (curve.y <= curve.upper)).all()
    assert (curve.upper - curve.lower).max() > 0.05


def test_bands_know_that_samples_of_a_group_are_alike() -> None:
    found = predictions(samples=200)
    alone = roc_curve(found.probabilities[:, 1], found.labels == 1, [str(each) for each in range(200)])
    twice = roc_curve(
        np.tile(found.probabilities[:, 1], 2),
        np.tile(found.labels == 1, 2),
        [str(each % 200) for each in range(400)],
    )
    assert np.allclose(alone.y, twice.y)
    assert (twice.upper - twice.lower).mean() == pytest.approx((alone.upper - alone.lower).mean(), rel=0.1)


def test_precision_ends_where_all_positives_are_found() -> None:
    found = predictions()
    positive = found.labels == 1
    curve = precision_recall_curve(found.probabilities[:, 1], positive, found.groups)
    lowest = found.probabilities[:, 1] >= found.probabilities[positive, 1].min()
    assert curve.y[-1] == pytest.approx(positive[lowest].mean())
    assert curve.y[0] > curve.y[-1]


@pytest.mark.external
def test_average_precision_and_calibration_error_equal_those_of_torchmetrics() -> None:
    import torch
    from torchmetrics.functional import classification

    found = predictions()
    scores = torch.from_numpy(found.probabilities)
    curve = precision_recall_curve(found.probabilities[:, 1], found.labels == 1, found.groups)
    theirs = classification.binary_average_precision(scores[:, 1], torch.from_numpy(found.labels))
    assert curve.area == pytest.approx(float(theirs), abs=1e-6)
    bins = reliability_of(found.probabilities, found.labels, found.groups)
    error = classification.multiclass_calibration_error(
        scores, torch.from_numpy(found.labels), num_classes=2, n_bins=10, norm="l1"
    )
    assert expected_calibration_error(bins) == pytest.approx(float(error), abs=1e-6)


def test_reliability_counts_every_sample_once() -> None:
    found = predictions(classes=4)
    bins = reliability_of(found.probabilities, found.labels, found.groups)
    assert sum(each.samples for each in bins) == len(found.labels)
    right = sum(each.samples * each.accuracy for each in bins) / len(found.labels)
    assert right == pytest.approx(compute_metrics(found.probabilities, found.labels)["accuracy"])
    assert all(each.lower <= each.accuracy <= each.upper for each in bins)


def test_who_is_always_sure_and_right_is_calibrated() -> None:
    labels = np.arange(10) % 2
    bins = reliability_of(np.eye(2)[labels], labels, list("aabbccddee"))
    assert [each.samples for each in bins] == [10]
    assert math.isclose(expected_calibration_error(bins), 0)


def test_confusion_has_labels_in_rows_and_predictions_in_columns() -> None:
    said = np.eye(3)[[0, 1, 1, 2, 0]]
    confusion = confusion_matrix(said, np.array([0, 0, 1, 2, 2]))
    assert confusion.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 1]]


def test_an_evaluation_comes_back_from_json_as_it_was() -> None:
    import json
    from dataclasses import asdict

    evaluation = evaluate(predictions(classes=3))
    assert Evaluation.from_dict(json.loads(json.dumps(asdict(evaluation)))) == evaluation
