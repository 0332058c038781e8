"""Which views of a split's samples are turned into features: as they are, and a few others, drawn once.

Of the training split these are what its first epochs would show: augmented, and with the recipe's correction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from imil_backend.learning.contract.training_job import Recipe, Split
from imil_backend.learning.inference.shortcuts import draw_once
from imil_backend.learning.inputs.augmentation import vary
from imil_backend.learning.inputs.batches import draw_augmentation, draw_views
from imil_backend.learning.inputs.data import Draw, SampleSet
from imil_backend.learning.inputs.exchange import NOBODY
from imil_backend.learning.inputs.published import Alter, one_hot, published

_BATCH_SIZE = 32
_VIEWS = 4  # of a training sample; without augmentation the last stage learns its few images by heart


@dataclass(frozen=True)
class Look:
    """Samples in one view each, perhaps augmented."""

    samples: SampleSet
    draw: Draw
    classes: int
    parameters: NDArray[np.float32] | None = None  # of `augment`, if they are
    alter: Alter | None = None  # a published augmentation, after that
    seeds: NDArray[np.int64] | None = None  # of `alter`

    def parts(self, places: NDArray[np.int64]) -> list[Part]:
        """Batches of what is at these places.

        Where a published augmentation alters them they hold others too: images that are mixed need the same
        neighbours each time.
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
        """uint8 (n, height, width, channels) on the device; with `alter` the share of each class too."""
        look = self.look
        indices = look.draw.indices[self.places]
        images = look.samples.images(Draw(indices, look.draw.views[self.places]), device)
        if look.parameters is None:
            return images, None
        pixels = vary(images, torch.from_numpy(look.parameters[self.places]).to(device))
        if look.alter is None or look.seeds is None:
            return _rounded(pixels), None
        labels = torch.from_numpy(look.samples.labels[indices])
        seeds = look.seeds[self.places].tolist()
        pixels, targets = look.alter(pixels, labels.to(device), seeds, look.classes)
        shares = targets if targets.is_floating_point() else one_hot(targets, look.classes)
        return _rounded(pixels), shares.cpu().numpy()


def _rounded(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 (n, height, width, channels) of `vary`'s pixels."""
    return pixels.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def looks_at(samples: SampleSet, split: Split, recipe: Recipe, classes: int) -> list[Look]:
    """All samples of a split as they are; then its other views, of the training split of all samples too."""
    everyone = np.arange(len(samples))
    plain = Look(samples, Draw(everyone, np.full(len(samples), NOBODY)), classes)
    if split != "train":
        if samples.views is None and samples.masks is None:
            return [plain]
        return [plain, replace(plain, draw=draw_once(samples, recipe.seed))]
    if samples.views is None and samples.masks is None and recipe.augmentation == "none":
        return [plain]
    return [plain, *(_drawn(plain, recipe, epoch) for epoch in range(1, _VIEWS + 1))]


def _drawn(plain: Look, recipe: Recipe, epoch: int) -> Look:
    """What an epoch would show of each sample, in an order of its own: neighbours may be mixed."""
    order = np.random.default_rng([recipe.seed, epoch]).permutation(len(plain.samples))
    parameters, seeds = draw_augmentation(len(order), recipe, epoch)
    return replace(
        plain,
        draw=Draw(order, draw_views(plain.samples, order, recipe, epoch)),
        parameters=parameters,
        alter=published(recipe.augmentation),
        seeds=seeds,
    )


def _cut(places: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [places[start : start + _BATCH_SIZE] for start in range(0, len(places), _BATCH_SIZE)]
