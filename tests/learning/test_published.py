"""Augmentations that others have published: usual settings, chance from seeds alone, labels that fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_jobs import RECIPE

from imil_backend.learning.contract.augmentations import AUGMENTATIONS
from imil_backend.learning.contract.checks import check_recipe
from imil_backend.learning.inference.looks import looks_at
from imil_backend.learning.inputs.batches import plan_epoch
from imil_backend.learning.inputs.data import SampleSet
from imil_backend.learning.inputs.published import published

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]  # image by image

NAMES = [name for name, path in AUGMENTATIONS.items() if path]
MIXED = ["mixup", "cutmix"]
SIDE, CLASSES = 32, 3


def batch(count: int = 8, channels: int = 1) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(20, 236, (count, channels, SIDE, SIDE), generator=random).float()
    return pixels, torch.arange(count) % CLASSES, list(range(count))


def altered(name: str, pixels: torch.Tensor, labels: torch.Tensor, seeds: list[int]):
    alter = published(name)
    assert alter is not None
    return alter(pixels.clone(), labels, seeds, CLASSES)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_images_are_altered_from_their_seeds_alone(name: str, channels: int):
    pixels, labels, seeds = batch(16, channels)
    before = torch.get_rng_state()
    found, targets = altered(name, pixels, labels, seeds)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    again, _ = altered(name, pixels, labels, seeds)
    other, _ = altered(name, pixels, labels, [seed + 100 for seed in seeds])
    assert torch.equal(found, again) and not torch.equal(found, other)
    assert found.shape == pixels.shape and found.min() >= 0 and found.max() <= 255
    assert (found != pixels).flatten(1).any(1).float().mean() > 0.2
    if name in MIXED:
        assert targets.shape == (16, CLASSES)
        assert torch.allclose(targets.sum(1), torch.ones(16))
    else:
        assert torch.equal(targets, labels)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in {*MIXED, "cutout"}])
def test_an_image_is_altered_the_same_in_any_batch(name: str):
    pixels, labels, seeds = batch()
    whole, _ = altered(name, pixels, labels, seeds)
    part, _ = altered(name, pixels[5:], labels[5:], seeds[5:])
    assert torch.equal(whole[5:], part)


@pytest.mark.parametrize("name", ["none", "light"])
def test_our_own_are_none_of_them(name: str):
    assert published(name) is None
    assert plan_epoch(np.arange(8) % 2, RECIPE, 1, 1).seeds is None


def test_mixup_shares_labels_as_it_shares_pixels():
    pixels, labels, seeds = batch()
    mixed, targets = altered("mixup", pixels, labels, seeds)
    own = (mixed[1] - pixels[0]) / (pixels[1] - pixels[0])
    share = float(own[torch.isfinite(own)].median())
    assert torch.allclose(mixed[1], share * pixels[1] + (1 - share) * pixels[0], atol=1e-3)
    assert targets[1, labels[1]] == pytest.approx(share, abs=1e-4)
    assert targets[1, labels[0]] == pytest.approx(1 - share, abs=1e-4)


def test_cutmix_shares_labels_by_area():
    pixels, labels, seeds = batch()
    mixed, targets = altered("cutmix", pixels, labels, seeds)
    taken = (mixed[1] != pixels[1]) & (mixed[1] == pixels[0])
    assert targets[1, labels[0]] == pytest.approx(float(taken.float().mean()), abs=0.02)


def test_cutout_covers_a_square_of_half_the_side_at_most():
    pixels, labels, seeds = batch(64)
    found, _ = altered("cutout", pixels, labels, seeds)
    covered = (found != pixels)[:, 0]
    assert covered.any(2).sum(1).max() == SIDE // 2 == covered.any(1).sum(1).max()
    assert 0.1 < covered.float().mean() < 0.25
    assert covered.flatten(1).float().mean(1).unique().numel() > 3  # some lie partly outside


def sample_set(count: int = 80) -> SampleSet:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (count, SIDE, SIDE, 1), dtype=np.uint8)
    keys = tuple(map(str, range(count)))
    return SampleSet(pixels, np.arange(count), np.arange(count) % CLASSES, keys, keys)


@pytest.mark.parametrize("name", ["mixup", "randaugment"])
def test_of_features_a_few_views_are_drawn_once_and_always_shown(name: str):
    samples = sample_set()
    recipe = type(RECIPE)(**{**vars(RECIPE), "augmentation": name, "trainable": "layer4"})
    check_recipe(recipe)
    plain, *views = looks_at(samples, "train", recipe, CLASSES)
    assert len(views) == 4 and len(looks_at(samples, "validation", recipe, CLASSES)) == 1
    assert plain.parts(np.arange(3))[0].images(torch.device("cpu"))[1] is None
    for view in views:
        assert sorted(view.draw.indices) == list(range(80))
        whole = {}
        for part in view.parts(np.arange(80)):
            images, targets = part.images(torch.device("cpu"))
            assert targets is not None and targets.sum(axis=1) == pytest.approx(1, abs=1e-6)
            whole |= dict(zip(part.places, images.numpy(), strict=True))
        (missing,) = view.parts(np.array([40]))  # after a kill: the same neighbours
        images, _ = missing.images(torch.device("cpu"))
        for place, image in zip(missing.places, images.numpy(), strict=True):
            np.testing.assert_array_equal(image, whole[place])
