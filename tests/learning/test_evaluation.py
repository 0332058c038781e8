import numpy as np
import pytest
import torch

from imil_backend.learning.scoring.metrics import compute_metrics, margins, softmax


@pytest.mark.external
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_metrics_equal_those_of_torchmetrics(classes: int):
    from torchmetrics.functional import classification

    random = np.random.default_rng(classes)
    labels = random.integers(0, classes, 200)
    # Coarse scores, so that many are equal.
    probabilities = softmax(
        random.integers(-3, 4, (200, classes)).astype(np.float32) + 2 * np.eye(classes)[labels]
    )
    ours = compute_metrics(probabilities, labels)
    theirs, truth = torch.from_numpy(probabilities), torch.from_numpy(labels)
    options = {"num_classes": classes, "thresholds": None}
    accuracy = classification.multiclass_accuracy(theirs, truth, classes, average="micro")
    recall = classification.multiclass_accuracy(theirs, truth, classes, average="macro")
    assert ours["accuracy"] == pytest.approx(accuracy.item())
    assert ours["balanced_accuracy"] == pytest.approx(recall.item())
    assert ours["auc"] == pytest.approx(classification.multiclass_auroc(theirs, truth, **options).item())
    assert ours["loss"] == pytest.approx(torch.nn.functional.nll_loss(theirs.log(), truth).item())


def test_what_is_not_defined_is_none():
    nothing = compute_metrics(np.empty((0, 2)), np.empty(0, np.int64))
    assert set(nothing.values()) == {None}
    one_class = compute_metrics(np.array([[0.9, 0.1], [0.4, 0.6]]), np.array([0, 0]))
    assert (one_class["accuracy"], one_class["auc"]) == (0.5, None)


def test_a_certain_mistake_has_a_finite_loss():
    assert np.isfinite(compute_metrics(np.array([[1.0, 0.0]]), np.array([1]))["loss"])


def test_a_margin_is_negative_where_the_network_is_wrong():
    logits = np.array([[3, 1, 0], [3, 1, 0], [0, 2, 5]], np.float32)
    assert margins(logits, np.array([0, 1, 2])).tolist() == [2, -2, 3]
