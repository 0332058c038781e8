from dataclasses import replace

import pytest

from imil_backend.errors import DatasetError, SettingsError
from imil_backend.learning.contract.checks import check_recipe, check_samples
from imil_backend.learning.contract.training_job import Recipe, TrainingSample

CLASSES = ("normal", "lesion")


def sample(key: str, label: int, split: str) -> TrainingSample:
    return TrainingSample(key, "x.png", "0", label, split, key)


GOOD = [sample(f"{split}{label}", label, split) for split in ("train", "validation") for label in (0, 1)]


def test_enough_is_enough():
    check_samples(GOOD, CLASSES)
    check_recipe(Recipe())


@pytest.mark.parametrize(
    ("samples", "classes", "message"),
    [
        (GOOD, CLASSES[:1], "only one class"),
        ([], CLASSES, "No sample is in the train split"),
        (GOOD[:2], CLASSES, "No sample is in the validation split"),
        (GOOD[:1] + GOOD[2:], CLASSES, "train split has no sample of class lesion"),
        (GOOD[:3], CLASSES, "validation split has no sample of class lesion"),
        ([*GOOD, sample("odd", 2, "test")], CLASSES, "odd has label 2"),
        ([*GOOD, GOOD[0]], CLASSES, "train0 occurs more than once"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_by_name(samples: list, classes: tuple, message: str):
    with pytest.raises(DatasetError, match=message):
        check_samples(samples, classes)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image_size", 16),
        ("batch_size", 1),
        ("micro_batch_size", 1),
        ("learning_rate", 0),
        ("mining_epoch", 0),
        ("mining_epoch", 10),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused(field: str, value: int):
    with pytest.raises(SettingsError, match=field):
        check_recipe(replace(Recipe(), **{field: value}))


def test_one_fold_is_not_out_of_fold():
    with pytest.raises(SettingsError, match="folds"):
        check_recipe(Recipe(mining="out-of-fold", folds=1))
