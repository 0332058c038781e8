"""Masks proposed while a round is open: a mask network learns from what has been painted so far.

    python -m imil_backend.learning.child.proposing_process DIRECTORY

with the directory of a training job: its samples are those painted, and those that masks are proposed for.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from imil_backend.errors import ImageError, ImilError, MaskError
from imil_backend.images.cache import CachedItem, PixelCache, read_mask
from imil_backend.images.masks.masks import mask_coverage
from imil_backend.learning.child.spreading.spread import spread_masks
from imil_backend.learning.contract.proposed import PROPOSED_FILE, write_proposed
from imil_backend.learning.contract.training_job import (
    ERROR_FILE,
    TrainingSample,
    read_samples,
    read_training_job,
    write_json,
)
from imil_backend.learning.inputs.data import pixel_cache
from imil_backend.learning.networks.mask_network import WORKING_SIZE

_DEVICE = torch.device("cpu")  # seconds of work; a GPU may be training


def propose(directory: Path) -> None:
    """Write PROPOSED_FILE into a job's directory, for all its samples that can be read."""
    job = read_training_job(directory)
    cache = pixel_cache(job)
    samples, rows = _readable(cache, read_samples(directory))
    painted, masks = _painted(samples)
    proposed = spread_masks(
        cache.pixels,
        rows,
        painted,
        masks,
        [sample.group for sample in samples],
        seed=job.recipe.seed,
        device=_DEVICE,
        advance=lambda _: None,
        seen=True,
    )
    write_proposed(directory / PROPOSED_FILE, [sample.key for sample in samples], proposed)


def _readable(
    cache: PixelCache, samples: list[TrainingSample]
) -> tuple[list[TrainingSample], NDArray[np.int64]]:
    """The samples whose images can be read, and their rows."""
    rows = cache.fill([CachedItem(Path(sample.image), sample.sha256) for sample in samples])
    return [sample for sample, row in zip(samples, rows, strict=True) if row >= 0], rows[rows >= 0]


def _painted(samples: list[TrainingSample]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Which samples were painted in the more frequent way, and their masks, of the working size.

    As exact as they were painted: the network's masks are for people to accept, not to be exchanged.
    """
    own = [index for index, sample in enumerate(samples) if sample.mask]
    outside = bool(own) and np.mean([samples[index].outside for index in own]) > 0.5
    indices: list[int] = []
    masks: list[NDArray[np.uint8]] = []
    for index in own:
        if samples[index].outside != outside:
            continue
        try:
            mask = read_mask(Path(samples[index].mask or ""), samples[index].mask_sha256)
        except (ImageError, MaskError):
            continue  # the round's training sets it aside, with the reason
        indices.append(index)
        masks.append(np.rint(mask_coverage(mask, WORKING_SIZE, WORKING_SIZE) * 255).astype(np.uint8))
    shape = (-1, WORKING_SIZE, WORKING_SIZE)
    return np.array(indices, np.int64), np.array(masks, np.uint8).reshape(shape)


def main() -> int:
    """Do the job of a directory; what it ends with is in the directory."""
    directory = Path(sys.argv[1])
    try:
        propose(directory)
    except ImilError as error:
        write_json(directory / ERROR_FILE, {"error": type(error).__name__, "message": str(error)})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
