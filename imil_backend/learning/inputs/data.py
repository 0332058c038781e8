"""The samples of a split: rows of the pixel cache with labels, and batches of them without a Python loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from imil_backend.images.cache import CachedItem, PixelCache
from imil_backend.learning.contract.job import Split, TrainingJob, TrainingSample
from imil_backend.learning.inputs.exchange import NOBODY, Masks, exchange

Advance = Callable[[int], None]  # takes how many images were done


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
    masks: Masks | None = None  # what is irrelevant in each, where it may be exchanged

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def bytes(self) -> int:
        """What the samples take in memory."""
        return len(self) * int(np.prod(self.cached.shape[1:])) * self.cached.itemsize

    def images(self, indices: NDArray[np.int64] | slice, device: torch.device) -> torch.Tensor:
        """(n, height, width, channels) on the device; to a GPU the copy runs beside the computing.

        uint8 pixels, or bfloat16 features.
        """
        rows = self.rows[indices]
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
            self.masks and self.masks.select(indices),
        )


@dataclass(frozen=True)
class SetAside:
    """A sample that could not be read and takes no part."""

    key: str
    reason: str


@dataclass(frozen=True)
class Dataset:
    """All splits of a job, and what was set aside."""

    splits: dict[Split, SampleSet]
    set_aside: tuple[SetAside, ...]


def fill_cache(
    job: TrainingJob, samples: Sequence[TrainingSample], tell: Callable[[int, int], None]
) -> tuple[NDArray[np.int64], tuple[SetAside, ...]]:
    """Make the cached rows that are missing; `tell` gets how many are made, and of how many.

    Returns:
        The row of each sample, -1 for those that could not be read, and these with their reasons.
    """
    cache = _cache(job)
    items = [
        CachedItem(
            Path(sample.image),
            sample.sha256,
            Path(sample.mask) if sample.mask else None,
            sample.mask_sha256,
            sample.fill,
        )
        for sample in samples
    ]
    rows = cache.fill(items, tell)
    return rows, tuple(SetAside(samples[index].key, reason) for index, reason in cache.failures)


def load_dataset(
    job: TrainingJob,
    samples: Sequence[TrainingSample],
    rows: NDArray[np.int64],
    set_aside: tuple[SetAside, ...],
) -> Dataset:
    """The samples by split, mapped to their cached rows; those without a row are left out."""
    pixels = _cache(job).pixels
    splits: dict[Split, SampleSet] = {}
    for split in ("train", "validation", "test"):
        chosen = [
            (sample, row)
            for sample, row in zip(samples, rows, strict=True)
            if sample.split == split and row >= 0
        ]
        splits[split] = SampleSet(
            pixels,
            np.array([row for _, row in chosen], np.int64),
            np.array([sample.label for sample, _ in chosen], np.int64),
            tuple(sample.key for sample, _ in chosen),
            tuple(sample.group for sample, _ in chosen),
        )
    return Dataset(splits, set_aside)


def _copied(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """On the device, without waiting for it: CUDA copies from pinned memory by itself."""
    if device.type == "cuda":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def _cache(job: TrainingJob) -> PixelCache:
    return PixelCache(
        Path(job.cache_dir),
        job.recipe.image_size,
        job.channels,
        max_bytes=job.max_image_bytes,
        max_pixels=job.max_image_pixels,
    )
