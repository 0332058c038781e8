"""Which views of a split's samples are turned into features: as they are, and a few others, drawn once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from imil_backend.learning.contract.training_job import Recipe, Split
from imil_backend.learning.inference.shortcuts import draw_once
from imil_backend.learning.inputs.batches import draw_seeds, draw_views
from imil_backend.learning.inputs.data import Draw, SampleSet
from imil_backend.learning.inputs.exchange import NOBODY
from imil_backend.learning.inputs.published import Alter, one_hot, published

_BATCH_SIZE = 32
_VIEWS = 4  # counterexamples, or augmented views, of a sample


@dataclass(frozen=True)
class Look:
    """Samples in one view each, perhaps augmented."""

    samples: SampleSet
    draw: Draw
    classes: int
    alter: Alter | None = None
    seeds: NDArray[np.int64] | None = None  # of each, if they are

    def parts(self, places: NDArray[np.int64]) -> list[Part]:
        """Batches of what is at these places.

        Of an augmented look they hold others too: images that are mixed need the same neighbours each time.
        """
        if self.alter is not None:
            every = np.arange(len(self.draw.indices))
            cuts = _cut(every)
            return [Part(self, cut) for cut in cuts if np.isin(cut, places).any()]
        return [Part(self, cut) for cut in _cut(places)]


@dataclass(frozen=True)
class Part:
    """A batch of a look."""

    look: Look
    places: NDArray[np.int64]

    def images(self, device: torch.device) -> tuple[torch.Tensor, NDArray[np.float32] | None]:
        """uint8 (n, height, width, channels) on the device; of augmented ones the share of each class too."""
        look = self.look
        indices = look.draw.indices[self.places]
        images = look.samples.images(Draw(indices, look.draw.views[self.places]), device)
        if look.alter is None or look.seeds is None:
            return images, None
        labels = torch.from_numpy(look.samples.labels[indices])
        seeds = look.seeds[self.places].tolist()
        pixels, targets = look.alter(
            images.permute(0, 3, 1, 2).float(), labels.to(device), seeds, look.classes
        )
        shares = targets if targets.is_floating_point() else one_hot(targets, look.classes)
        altered = pixels.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
        return altered, shares.cpu().numpy()


def looks_at(samples: SampleSet, split: Split, recipe: Recipe, classes: int) -> list[Look]:
    """All samples of a split as they are, then those that have other views in each of them."""
    everyone = np.arange(len(samples))
    plain = Look(samples, Draw(everyone, np.full(len(samples), NOBODY)), classes)
    if split != "train":
        if samples.views is None and samples.masks is None:
            return [plain]
        return [plain, replace(plain, draw=draw_once(samples, recipe.seed))]
    alter = published(recipe.augmentation)
    if alter is not None:
        return [plain, *(_augmented(plain, recipe, alter, number) for number in range(_VIEWS))]
    always = replace(recipe, correction_share=1.0)
    looks = [plain]
    for number in range(_count_views(samples)):
        views = draw_views(samples, everyone, always, number)
        looks.append(replace(plain, draw=Draw(np.flatnonzero(views != NOBODY), views[views != NOBODY])))
    return looks


def _count_views(samples: SampleSet) -> int:
    if samples.views is not None:
        return len(samples.views)
    return 0 if samples.masks is None else _VIEWS


def _augmented(plain: Look, recipe: Recipe, alter: Alter, number: int) -> Look:
    """One more view of each sample, in an order of its own: neighbours may be mixed."""
    seeds = draw_seeds(len(plain.samples), recipe, number)
    order = np.random.default_rng(seeds).permutation(len(seeds))
    views = draw_views(plain.samples, order, recipe, number)
    return replace(plain, draw=Draw(order, views), alter=alter, seeds=seeds)


def _cut(places: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [places[start : start + _BATCH_SIZE] for start in range(0, len(places), _BATCH_SIZE)]
