from dataclasses import replace

import numpy as np
import pytest

from imil_backend.errors import DatasetError
from imil_backend.learning.contract.training_job import Recipe
from imil_backend.learning.inputs.batches import (
    check_processes,
    class_weights,
    count_micro_batches,
    count_visits,
    plan_epoch,
)

RECIPE = Recipe(batch_size=32, micro_batch_size=16)


def plan(count: int, epoch: int = 1, micro_batches: int = 2, **changes: object):
    return plan_epoch(np.zeros(count, np.int64), replace(RECIPE, **changes), epoch, micro_batches)


@pytest.mark.parametrize("count", [2, 3, 31, 32, 33, 63, 65, 1000])
@pytest.mark.parametrize("batch_size", [2, 3, 32])
def test_every_position_is_in_one_micro_batch_of_two_images_or_more(count: int, batch_size: int):
    batches = plan(count, batch_size=batch_size).batches
    positions = [
        position for batch in batches for piece in batch for position in range(piece.start, piece.stop)
    ]
    assert positions == list(range(count))
    assert all(piece.stop - piece.start >= 2 for batch in batches for piece in batch)
    assert all(batch[-1].stop - batch[0].start <= batch_size + 1 for batch in batches)


def test_the_order_comes_from_seed_and_epoch_alone():
    order = plan(100).order
    assert np.array_equal(np.sort(order), np.arange(100))
    assert np.array_equal(order, plan(100, micro_batches=4).order)
    assert not np.array_equal(order, plan(100, epoch=2).order)
    assert not np.array_equal(order, plan(100, seed=1).order)


def test_augmentation_is_drawn_for_each_position():
    drawn = plan(100).augmentation
    assert len(np.unique(drawn[:, 0])) == 100
    assert np.abs(drawn).max() <= 1
    assert plan(100, augmentation="none").augmentation is None


def test_balanced_sampling_visits_classes_equally_and_every_sample():
    labels = np.array([0] * 30 + [1] * 7 + [2] * 3)
    recipe = replace(RECIPE, balance="sampling")
    epoch = plan_epoch(labels, recipe, 1, 2)
    assert np.bincount(labels[epoch.order]).tolist() == [30, 30, 30]
    assert set(epoch.order) == set(range(40))
    assert len(epoch.order) == count_visits(labels, recipe)
    assert count_visits(labels, RECIPE) == 40


def test_a_record_has_one_value_a_sample_however_often_it_was_visited():
    labels = np.array([0] * 8 + [1] * 2)
    epoch = plan_epoch(labels, replace(RECIPE, balance="sampling"), 1, 2)
    assert epoch.per_sample(epoch.order.astype(np.float32), 10).tolist() == list(range(10))


def test_class_weights_let_each_class_count_the_same():
    labels = np.array([0] * 30 + [1] * 10)
    weights = class_weights(labels, 2)
    assert weights[0] * 30 == pytest.approx(weights[1] * 10)
    assert weights[labels].mean() == pytest.approx(1)


def test_a_batch_is_cut_alike_for_as_many_processes_as_it_has_pieces():
    assert [count_micro_batches(RECIPE, 16, processes) for processes in (1, 2, 4)] == [2, 2, 4]


def test_more_processes_than_pieces_are_refused():
    check_processes(plan(64), 2)
    with pytest.raises(DatasetError, match="3 were started"):
        check_processes(plan(64), 3)
