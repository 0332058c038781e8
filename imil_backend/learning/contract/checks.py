"""Checks before a training is started. Without torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from imil_backend.errors import DatasetError, SettingsError
from imil_backend.learning.contract.backbones import BACKBONES
from imil_backend.learning.contract.training_job import Recipe, TrainingSample
from imil_backend.options import check_options


def check_recipe(recipe: Recipe) -> None:
    """Refuse a recipe that cannot be trained.

    Raises:
        SettingsError: names the field and what to set.
    """
    check_options(recipe)
    backbone = BACKBONES[recipe.backbone]
    if recipe.image_size < backbone.smallest_image:
        raise SettingsError(
            f"image_size is {recipe.image_size}; {backbone.title} needs {backbone.smallest_image} or more."
        )
    if recipe.mining_epoch >= recipe.epochs:
        raise SettingsError(
            f"mining_epoch is {recipe.mining_epoch} of {recipe.epochs} epochs; at least one epoch "
            "must remain for fine-tuning."
        )
    _check_trainable(recipe)
    if recipe.mining == "out-of-fold" and recipe.folds < 2:
        raise SettingsError(f"folds is {recipe.folds}; out-of-fold mining needs 2 or more.")


def _check_trainable(recipe: Recipe) -> None:
    if recipe.trainable == "all":
        return
    if recipe.progressive:
        raise SettingsError(
            f"trainable is {recipe.trainable}, which works on features of images of one size: set "
            "progressive to false."
        )
    if recipe.mining == "out-of-fold":
        raise SettingsError(
            "Out-of-fold mining trains whole networks; train all layers, or choose another mining."
        )


def check_samples(samples: Sequence[TrainingSample], classes: Sequence[str]) -> None:
    """Refuse samples that nothing can be learned or measured from.

    Raises:
        DatasetError: names the split and class that lacks samples, or the sample that does not fit.
    """
    if len(classes) < 2:
        raise DatasetError(f"There is only one class ({', '.join(classes)}): at least two are needed.")
    repeated = [key for key, count in Counter(sample.key for sample in samples).items() if count > 1]
    if repeated:
        raise DatasetError(f"Sample {repeated[0]} occurs more than once.")
    for sample in samples:
        if not 0 <= sample.label < len(classes):
            raise DatasetError(
                f"Sample {sample.key} has label {sample.label}; there are {len(classes)} classes."
            )
    for split in ("train", "validation"):
        _check_split(split, Counter(sample.label for sample in samples if sample.split == split), classes)


def _check_split(split: str, counts: Counter[int], classes: Sequence[str]) -> None:
    if not counts:
        raise DatasetError(f"No sample is in the {split} split: import more images, or split them again.")
    missing = [name for label, name in enumerate(classes) if not counts[label]]
    if missing:
        raise DatasetError(
            f"The {split} split has no sample of class {', '.join(missing)}: import more images of "
            "it, remove the class, or split again with another seed."
        )
