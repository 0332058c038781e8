"""Augmentations that others have published, by torchvision, with their usual settings.

Each alters a batch of images that may have been turned and brightened already. All chance comes from a seed
for each image, so that a resumed training, and any number of processes, draw the same; torch's own generator
is left as it was. What acts on each image alone is called image by image: torchvision draws once a call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pkgutil import resolve_name

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms.v2 import (  # type: ignore[attr-defined]  # they are, but not marked so
    AugMix,
    AutoAugment,
    AutoAugmentPolicy,
    CutMix,
    MixUp,
    RandAugment,
    RandomErasing,
    TrivialAugmentWide,
)

from imil_backend.learning.contract.augmentations import AUGMENTATIONS

# Of pixels (n, channels, height, width) in 0..255, labels (n,), seeds (n,) and the number of classes it makes
# pixels of the same shape, and targets: the labels, or (n, classes) shares of each class.
Alter = Callable[[Tensor, Tensor, Sequence[int], int], tuple[Tensor, Tensor]]

_MEAN_GREY = 0.449 * 255  # of ImageNet: 0 once it is normalised
_MIXUP_ALPHA = 0.2
_CUTMIX_ALPHA = 1.0


def published(name: str) -> Alter | None:
    """The augmentation of this name; None for those that are no more than `light`."""
    path = AUGMENTATIONS[name]
    if path is None:
        return None
    alter: Alter = resolve_name(path)
    return alter


def random_erasing(
    pixels: Tensor, labels: Tensor, seeds: Sequence[int], _classes: int
) -> tuple[Tensor, Tensor]:
    """In half of the images a rectangle of 2 to 33 % becomes mean grey.

    Zhong et al. 2020, "Random Erasing Data Augmentation"; p 0.5 and the sizes are theirs.
    """
    return _one_by_one(RandomErasing(p=0.5, value=_MEAN_GREY), pixels, seeds), labels


def cutout(pixels: Tensor, labels: Tensor, seeds: Sequence[int], _classes: int) -> tuple[Tensor, Tensor]:
    """A square of half the side becomes mean grey; it may lie partly outside.

    DeVries and Taylor 2017, "Improved Regularization of Convolutional Neural Networks with Cutout": 16 of 32
    pixels. torchvision has none.
    """
    height, width = pixels.shape[-2:]
    with _seeded(seeds[0], pixels.device):
        center = torch.rand(len(pixels), 2, 1)
    rows, columns = (
        ((torch.arange(side) + 0.5 - center[:, axis] * side).abs() < side / 4).to(pixels.device)
        for axis, side in enumerate((height, width))
    )
    covered = rows[:, None, :, None] & columns[:, None, None, :]
    return torch.where(covered, _MEAN_GREY, pixels), labels


def mixup(pixels: Tensor, labels: Tensor, seeds: Sequence[int], classes: int) -> tuple[Tensor, Tensor]:
    """Each image is a weighted mean with another one, and so is its label.

    Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization"; alpha 0.2 is theirs for ImageNet.
    """
    return _mixed(MixUp(alpha=_MIXUP_ALPHA, num_classes=classes), pixels, labels, seeds)


def cutmix(pixels: Tensor, labels: Tensor, seeds: Sequence[int], classes: int) -> tuple[Tensor, Tensor]:
    """A rectangle of each image is another one's; the label is shared by area.

    Yun et al. 2019, "CutMix"; alpha 1 is theirs.
    """
    return _mixed(CutMix(alpha=_CUTMIX_ALPHA, num_classes=classes), pixels, labels, seeds)


def augmix(pixels: Tensor, labels: Tensor, seeds: Sequence[int], _classes: int) -> tuple[Tensor, Tensor]:
    """A mean of three chains of one to three operations, and of the image itself.

    Hendrycks et al. 2020, "AugMix"; severity 3, width 3, alpha 1 are theirs. Without their consistency loss.
    """
    return _one_by_one(AugMix(), pixels, seeds), labels


def randaugment(pixels: Tensor, labels: Tensor, seeds: Sequence[int], _classes: int) -> tuple[Tensor, Tensor]:
    """Two operations of magnitude 9.

    Cubuk et al. 2020, "RandAugment"; the two numbers are theirs for ResNet-50 on ImageNet.
    """
    return _one_by_one(RandAugment(num_ops=2, magnitude=9), pixels, seeds), labels


def trivialaugment(
    pixels: Tensor, labels: Tensor, seeds: Sequence[int], _classes: int
) -> tuple[Tensor, Tensor]:
    """One operation of any magnitude, with a wide range.

    Müller and Hutter 2021, "TrivialAugment"; there is nothing to set.
    """
    return _one_by_one(TrivialAugmentWide(), pixels, seeds), labels


def autoaugment(pixels: Tensor, labels: Tensor, seeds: Sequence[int], _classes: int) -> tuple[Tensor, Tensor]:
    """One of 25 pairs of operations that were found for ImageNet.

    Cubuk et al. 2019, "AutoAugment".
    """
    return _one_by_one(AutoAugment(AutoAugmentPolicy.IMAGENET), pixels, seeds), labels


def _one_by_one(transform: nn.Module, pixels: Tensor, seeds: Sequence[int]) -> Tensor:
    """By images of 8 bits, as these operations need them."""
    images = pixels.round().to(torch.uint8)
    altered = []
    for image, seed in zip(images, seeds, strict=True):
        with _seeded(seed, pixels.device):
            altered.append(transform(image))
    return torch.stack(altered).float()


def _mixed(
    transform: nn.Module, pixels: Tensor, labels: Tensor, seeds: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Each with the one before it in the batch, all in the same shares."""
    with _seeded(seeds[0], pixels.device):
        mixed, targets = transform(pixels, labels)
    return mixed, targets


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """(n, classes) shares of each class."""
    return functional.one_hot(labels, classes).float()


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """With torch's generators at a seed; afterwards they are as they were."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
