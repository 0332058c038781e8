"""Measures of a comparison beside scikit-learn's and torchmetrics', and under weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from compared import answers_to, some_predictions, some_run, twice
from sklearn import metrics as sklearn

from imil_backend.learning.evaluation.calibration import expected_calibration_error, reliability_of
from imil_backend.learning.scoring.metrics import compute_metrics
from imil_backend.loop.comparing.statistics.measures import (
    Answers,
    answers_of,
    best_threshold,
    measures_of,
)


def measured(answers: Answers, weights: np.ndarray | None = None) -> dict[str, float]:
    own = np.ones((1, 1 + answers.patients.max())) if weights is None else weights
    names = [f"class {label}" for label in range(answers.probabilities.shape[1])]
    return {name: float(measure.value(answers, own)[0]) for name, measure in measures_of(names).items()}


@pytest.mark.parametrize("classes", [2, 3])
def test_without_weights_they_are_those_of_the_product_and_of_scikit_learn(classes: int):
    answers = answers_to(some_predictions(1.0, classes=classes, leaning=0.5))
    labels, said = answers.labels, answers.probabilities.argmax(axis=1)
    found, ours = measured(answers), compute_metrics(answers.probabilities, labels)
    assert found["accuracy"] == pytest.approx(ours["accuracy"])
    assert found["balanced_accuracy"] == pytest.approx(sklearn.balanced_accuracy_score(labels, said))
    scores = answers.probabilities[:, 1] if classes == 2 else answers.probabilities
    assert found["auc"] == pytest.approx(ours["auc"])
    if classes == 2:
        assert found["auc"] == pytest.approx(sklearn.roc_auc_score(labels, scores))
    recalls = sklearn.recall_score(labels, said, average=None)
    assert [found[f"recall_{label}"] for label in range(classes)] == pytest.approx(list(recalls))
    assert answers.contradicting is not None
    against = answers.contradicting
    assert found["conflict"] == pytest.approx(sklearn.accuracy_score(labels[against], said[against]))
    assert found["agree"] == pytest.approx(sklearn.accuracy_score(labels[~against], said[~against]))
    assert found["worst_group"] == min(
        np.mean(said[(labels == label) & side] == label)
        for label in range(classes)
        for side in (against, ~against)
    )


@pytest.mark.external
@pytest.mark.parametrize("classes", [2, 4])
def test_the_calibration_error_is_that_of_torchmetrics(classes: int):
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error

    answers = answers_to(some_predictions(2.0, classes=classes, samples=500))
    expected = multiclass_calibration_error(
        torch.from_numpy(answers.probabilities), torch.from_numpy(answers.labels), classes, n_bins=10
    )
    found = measured(answers)["calibration_error"]
    assert found == pytest.approx(float(expected), abs=1e-6)
    groups = [str(number) for number in answers.patients]
    bins = reliability_of(answers.probabilities, answers.labels, groups)
    assert found == pytest.approx(expected_calibration_error(bins))


@pytest.mark.parametrize("classes", [2, 3])
def test_a_patient_that_weighs_twice_counts_as_two(classes: int):
    answers = answers_to(some_predictions(0.8, classes=classes, leaning=0.5))
    random = np.random.default_rng(0)
    tested = np.where(np.arange(120)[:, None] % 3, random.random((120, 2)), np.nan)
    answers = replace(answers, threshold=0.4 if classes == 2 else None, exchanged=tested)
    weights = np.ones((1, 60))
    weights[0, [3, 17]] = 2
    expected = measured(twice(answers, [3, 17]))
    assert measured(answers, weights) == pytest.approx(expected, nan_ok=True)


def test_the_shortcut_test_is_about_the_samples_that_were_tested():
    run = some_run("spread", 0, skill=1.0)
    tested = run.test.exchanged
    assert tested is not None and 0 < len(tested) < len(run.test.keys)
    found, shares = measured(answers_of(run, {})), np.array(list(tested.values()))
    assert found["robust_accuracy"] == pytest.approx(shares[:, 1].mean())
    assert found["drop"] == pytest.approx((shares[:, 0] - shares[:, 1]).mean())
    where = measures_of(("normal", "sick"))["drop"].where(answers_of(run, {}))
    assert where.sum() == len(tested)


def test_what_no_sample_tells_is_not_measured():
    answers = answers_to(some_predictions(1.0, leaning=None))
    found = measured(answers)
    assert all(np.isnan(found[name]) for name in ("agree", "conflict", "worst_group", "drop"))
    one_class = replace(answers, labels=np.zeros_like(answers.labels))
    assert np.isnan(measured(one_class)["auc"]) and np.isnan(measured(one_class)["recall_1"])


def test_the_threshold_is_the_best_one_on_validation():
    predictions = some_predictions(0.7, samples=90)
    scores, labels = predictions.probabilities[:, 1], predictions.labels
    found = best_threshold(predictions)
    assert found is not None
    tried = np.linspace(0, 1, 20_001)
    assert ((scores > found) == labels).mean() == max(((scores > each) == labels).mean() for each in tried)
    assert best_threshold(some_predictions(1.0, classes=3)) is None


def test_the_threshold_stays_at_a_half_where_none_is_better():
    labels = np.array([0, 0, 1, 1])
    positive = np.array([0.1, 0.3, 0.7, 0.8])
    predictions = replace(
        some_predictions(0, samples=4),
        labels=labels,
        probabilities=np.stack([1 - positive, positive], axis=1),
    )
    assert best_threshold(predictions) == 0.5


def test_accuracy_at_the_threshold_is_that_of_its_decisions():
    answers = replace(answers_to(some_predictions(0.7)), threshold=0.3)
    decided = answers.probabilities[:, 1] > 0.3
    assert measured(answers)["accuracy_at_threshold"] == pytest.approx(np.mean(decided == answers.labels))
