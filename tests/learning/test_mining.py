import numpy as np
import pytest

from imil_backend.errors import DatasetError
from imil_backend.learning.child.ending.mining import assign_folds, mining_records
from imil_backend.learning.inputs.data import SampleSet

SAMPLES = SampleSet(
    np.empty((0, 1, 1, 1), np.uint8), np.arange(3), np.array([0, 1, 1]), ("a", "b", "c"), ("g",) * 3
)
LOGITS = np.array([[2, 0], [1, 0], [0, 3]], np.float32)
NOBODY_CHANGES = np.full(3, -1)


def test_a_record_says_what_the_network_thought():
    margins = [np.array([1, -1, 2], np.float32), np.array([3, -3, 2], np.float32)]
    records = mining_records(SAMPLES, LOGITS, margins, np.array([0, -1, 1]))
    assert [record["wrong"] for record in records] == [False, True, False]
    assert [record["margin"] for record in records] == [2, -1, 3]
    assert [record["mean_margin"] for record in records] == [2, -2, 2]
    assert [record["margin_deviation"] for record in records] == pytest.approx(
        [np.std([1, 3, 2]), np.std([-1, -3, -1]), np.std([2, 2, 3])]
    )
    assert [record["variety"] for record in records] == [0, None, 1]
    assert records[1]["predicted"] == 0
    assert records[1]["probability"] == pytest.approx(1 / (1 + np.exp(-1)))


def test_without_later_epochs_there_is_no_mean_margin_and_no_doubt():
    records = mining_records(SAMPLES, LOGITS, [], NOBODY_CHANGES)
    assert [record["mean_margin"] for record in records] == [None] * 3
    assert [record["margin_deviation"] for record in records] == [0] * 3
    assert not any(record["likely_label_error"] for record in records)


def test_folds_keep_groups_together_and_classes_even():
    labels = np.repeat([0, 1], [80, 40])
    groups = [f"group-{number // 4}" for number in range(120)]
    folds = assign_folds(labels, groups, 5, seed=0)
    for group in set(groups):
        assert len({fold for fold, name in zip(folds, groups, strict=True) if name == group}) == 1
    assert [np.bincount(labels[folds == fold]).tolist() for fold in range(5)] == [[16, 8]] * 5
    assert np.array_equal(folds, assign_folds(labels, groups, 5, seed=0))


def test_folds_that_cannot_be_are_refused():
    with pytest.raises(DatasetError, match="2 groups"):
        assign_folds(np.array([0, 1]), ["a", "b"], 3, seed=0)
    with pytest.raises(DatasetError, match="without a class"):
        assign_folds(np.array([0, 0, 1]), ["a", "b", "c"], 2, seed=0)
