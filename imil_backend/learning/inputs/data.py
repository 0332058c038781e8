"""The samples of a split: rows of the pixel cache with labels, and batches of them without a Python loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from imil_backend.errors import ImageError, MaskError
from imil_backend.images.cache import CachedItem, PixelCache, read_mask
from imil_backend.images.limits.budget import DECODERS
from imil_backend.learning.contract.training_job import SPLITS, Recipe, Split, TrainingJob, TrainingSample
from imil_backend.learning.inputs.exchange import NOBODY, Masks, exchange, soften

Advance = Callable[[int], None]  # takes how many images were done


@dataclass(frozen=True)
class Draw:
    """Samples to be drawn, each in one of its views."""

    indices: NDArray[np.int64]
    # (n,) of them: NOBODY for the image as it is; else a row of SampleSet.views, or without any a donor
    views: NDArray[np.int64]


Piece = NDArray[np.int64] | slice | Draw  # which samples of a set make up a batch


@dataclass(frozen=True)
class SampleSet:
    """Samples whose pixels or features are cached; all sequences run in the same order."""

    # (rows, height, width, channels): uint8 pixels, or features as the bits of bfloat16, in a memory map;
    # or either on the device already
    cached: NDArray[np.uint8] | NDArray[np.uint16] | torch.Tensor
    rows: NDArray[np.int64]  # of the samples
    labels: NDArray[np.int64]
    keys: tuple[str, ...]
    groups: tuple[str, ...]
    confirmed: NDArray[np.bool_] | None = None  # (samples,) clinicians let their labels stand
    views: NDArray[np.int64] | None = None  # (views, samples) rows of what else may be shown, -1 for nothing
    masks: Masks | None = None  # what is irrelevant in each, to be exchanged as a batch is drawn
    targets: NDArray[np.float32] | None = None  # (views, samples, classes) of views whose labels are mixed
    drawn: bool = False  # the views were drawn as an epoch draws them, so that always one of them is shown

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def bytes(self) -> int:
        """What the samples and their views take in memory."""
        looks = len(self) + (0 if self.views is None else np.count_nonzero(self.views >= 0))
        return int(looks) * int(np.prod(self.cached.shape[1:])) * self.cached.itemsize

    def images(self, piece: Piece, device: torch.device) -> torch.Tensor:
        """(n, height, width, channels) on the device; to a GPU the copy runs beside the computing.

        uint8 pixels, or bfloat16 features.
        """
        if not isinstance(piece, Draw):
            return self.at(self.rows[piece], device)
        if self.views is None:
            return self.exchanged(piece.indices, piece.views, device)
        others = self.views[np.maximum(piece.views, 0), piece.indices]
        return self.at(np.where(piece.views == NOBODY, self.rows[piece.indices], others), device)

    def at(self, rows: NDArray[np.int64], device: torch.device) -> torch.Tensor:
        """What is cached in these rows, as of `images`."""
        if isinstance(self.cached, torch.Tensor):
            return self.cached[_copied(torch.from_numpy(rows), device)]
        batch = torch.from_numpy(self.cached[rows])
        return _copied(batch.view(torch.bfloat16) if batch.dtype == torch.uint16 else batch, device)

    def exchanged(
        self, indices: NDArray[np.int64], donors: NDArray[np.int64], device: torch.device
    ) -> torch.Tensor:
        """uint8 pixels as of `images`, the irrelevant part of each that of its donor.

        Args:
            indices: of the samples.
            donors: a sample for each of them, or NOBODY.
            device: where they go, and where it is done.
        """
        images = self.images(indices, device)
        changed = np.flatnonzero(donors != NOBODY)
        if self.masks is None or not len(changed):
            return images
        takers, givers = indices[changed], donors[changed]
        where = _copied(torch.from_numpy(changed), device)
        images[where] = exchange(
            images[where],
            self.images(givers, device),
            self.masks.of(takers, device),
            self.masks.of(givers, device),
            _copied(torch.from_numpy(self.masks.outside[takers]), device),
        )
        return images

    def select(self, indices: NDArray[np.int64]) -> SampleSet:
        """Some of the samples, in the order of `indices`."""
        return SampleSet(
            self.cached,
            self.rows[indices],
            self.labels[indices],
            tuple(self.keys[index] for index in indices),
            tuple(self.groups[index] for index in indices),
            None if self.confirmed is None else self.confirmed[indices],
            None if self.views is None else self.views[:, indices],
            self.masks and self.masks.select(indices),
            None if self.targets is None else self.targets[:, indices],
            self.drawn,
        )


@dataclass(frozen=True)
class Unread:
    """A sample that could not be read and takes no part."""

    key: str
    reason: str


@dataclass(frozen=True)
class LoadedSplits:
    """All splits of a job, and what was set aside."""

    splits: dict[Split, SampleSet]
    set_aside: tuple[Unread, ...]
    # The same samples' pixels without blackouts, in the same order, with the masks that were painted; with
    # those that were proposed too, once there are any.
    originals: dict[Split, SampleSet] = field(default_factory=dict)


@dataclass(frozen=True)
class CachedRows:
    """Where the samples' pixels lie in the cache, and the masks that were painted."""

    originals: NDArray[np.int64]  # (samples,), -1 where a sample cannot be used
    blackouts: NDArray[np.int64]  # (samples,), -1 where nothing was painted
    coverage: NDArray[np.uint8]  # (masks, size, size), as of `soften`
    masks: NDArray[np.int64]  # (samples,) into coverage, -1 where nothing was painted
    set_aside: tuple[Unread, ...]


def fill_cache(
    job: TrainingJob, samples: Sequence[TrainingSample], tell: Callable[[int, int], None]
) -> CachedRows:
    """Make the cached rows that are missing; `tell` gets how many are made, and of how many.

    A sample whose image or mask cannot be read is set aside with the reason.
    """
    cache = pixel_cache(job)
    masked = [index for index, sample in enumerate(samples) if sample.mask]
    items = [CachedItem(Path(sample.image), sample.sha256) for sample in samples]
    items += [
        CachedItem(
            Path(samples[index].image),
            samples[index].sha256,
            Path(samples[index].mask or ""),
            samples[index].mask_sha256,
            samples[index].fill,
        )
        for index in masked
    ]
    rows = cache.fill(items, tell)
    originals, blackouts = rows[: len(samples)].copy(), np.full(len(samples), -1, np.int64)
    blackouts[masked] = rows[len(samples) :]
    owners = [*range(len(samples)), *masked]
    reasons = {owners[place]: reason for place, reason in reversed(cache.failures)}
    masks, size = np.full(len(samples), -1, np.int64), job.recipe.image_size
    coverage: list[NDArray[np.uint8]] = []
    for index in (index for index in masked if index not in reasons):
        try:
            mask = read_mask(Path(samples[index].mask or ""), samples[index].mask_sha256)
        except (ImageError, MaskError) as error:  # it was fine when its blackout was cached
            reasons[index] = str(error)
            continue
        masks[index] = len(coverage)
        coverage.append(soften(mask, size))
    originals[list(reasons)] = -1
    return CachedRows(
        originals,
        blackouts,
        np.array(coverage, np.uint8).reshape(-1, size, size),
        masks,
        tuple(Unread(samples[index].key, reasons[index]) for index in sorted(reasons)),
    )


def load_dataset(job: TrainingJob, samples: Sequence[TrainingSample], made: CachedRows) -> LoadedSplits:
    """The samples by split, mapped to their cached rows; those that were set aside are left out."""
    pixels = pixel_cache(job).pixels
    splits: dict[Split, SampleSet] = {}
    originals: dict[Split, SampleSet] = {}
    for split in SPLITS:
        chosen = np.array(
            [
                index
                for index, sample in enumerate(samples)
                if sample.split == split and made.originals[index] >= 0
            ],
            np.int64,
        )
        own = [samples[index] for index in chosen]
        masks = Masks(made.coverage, made.masks[chosen], np.array([each.outside for each in own], bool))
        originals[split] = SampleSet(
            pixels,
            made.originals[chosen],
            np.array([sample.label for sample in own], np.int64),
            tuple(sample.key for sample in own),
            tuple(sample.group for sample in own),
            np.array([sample.confirmed for sample in own], bool),
            masks=masks if (masks.rows >= 0).any() else None,
        )
        splits[split] = _corrected(originals[split], made.blackouts[chosen], job.recipe)
    return LoadedSplits(splits, made.set_aside, originals)


def _corrected(originals: SampleSet, blackouts: NDArray[np.int64], recipe: Recipe) -> SampleSet:
    """The samples as the recipe's correction shows them."""
    if recipe.exchanges or not (blackouts >= 0).any():
        return originals
    if recipe.correction == "beside":
        return replace(originals, views=blackouts[None], masks=None)
    return replace(originals, rows=np.where(blackouts >= 0, blackouts, originals.rows), masks=None)


def _copied(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """On the device, without waiting for it: CUDA copies from pinned memory by itself."""
    if device.type == "cuda":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def pixel_cache(job: TrainingJob) -> PixelCache:
    """The pixels of a job's images, within its limits, which hold for this process from now on."""
    DECODERS.total = job.max_image_memory
    return PixelCache(
        Path(job.cache_dir),
        job.recipe.image_size,
        job.channels,
        max_bytes=job.max_image_bytes,
        max_pixels=job.max_image_pixels,
    )
