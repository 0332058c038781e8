"""What the layers that stay as they are make of each sample: computed once, kept, and trained on.

Rows of bfloat16 under the hash of the pixels, blackout and all, in a directory for these very weights: a
round computes anew what was blacked out since, and nothing else. 401 kB a sample at 224 px before layer4.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from imil_backend.images.rows import RowStore, remove_rows
from imil_backend.learning.child.context import Context
from imil_backend.learning.child.state.learner import Learner
from imil_backend.learning.contract.job import Split
from imil_backend.learning.inputs.augmentation import prepare
from imil_backend.learning.inputs.data import Dataset, SampleSet
from imil_backend.learning.inputs.prefetching import prefetch
from imil_backend.learning.networks.network import Trunk

CODE_VERSION = 1  # raise it when the same weights give other features than before
_BATCH_SIZE = 32

logger = logging.getLogger(__name__)


def with_features(context: Context, learner: Learner) -> Context:
    """The context with features in the place of pixels, made where they are missing.

    The layers that make them are in evaluation mode: their batch norms stay as they are too.

    Raises:
        CacheError: they cannot be written.
    """
    trunk = Trunk(learner.whole, context.recipe.trainable).eval()
    store = _store(context, trunk)
    made = _make(store, trunk, context, learner) if context.runtime.is_rank_zero else {}
    shared = context.runtime.broadcast(made)
    cached = store.rows
    splits = {
        name: replace(samples, cached=cached, rows=shared[name])
        for name, samples in context.dataset.splits.items()
    }
    return replace(context, dataset=Dataset(splits, context.dataset.set_aside))


def _store(context: Context, trunk: nn.Module) -> RowStore:
    """Where the features of these weights, at this image size and precision, are kept."""
    size = context.recipe.image_size
    with torch.inference_mode():
        blank = torch.zeros(1, 3, size, size, device=context.runtime.device)
        _, channels, height, width = trunk(blank).shape
    digest = hashlib.sha256(f"{CODE_VERSION} {context.runtime.precision}".encode())
    for tensor in trunk.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().numpy())
    name = f"before-{context.recipe.trainable}_{size}px_{digest.hexdigest()[:16]}"
    return RowStore(Path(context.job.cache_dir) / name, "features.bf16", np.uint16, (height, width, channels))


def _make(
    store: RowStore, trunk: nn.Module, context: Context, learner: Learner
) -> dict[Split, NDArray[np.int64]]:
    """The row of each sample of each split."""
    splits = context.dataset.splits
    keys = {name: _digests(samples) for name, samples in splits.items()}
    _remove_superseded(store.directory, {key for digests in keys.values() for key in digests})
    context.reporter.begin("features", sum(len(samples) for samples in splits.values()))
    return {
        name: _fill(store, trunk, samples, keys[name], context, learner) for name, samples in splits.items()
    }


def _digests(samples: SampleSet) -> list[bytes]:
    return [hashlib.sha256(np.asarray(samples.cached[row]).data).digest() for row in samples.rows]


def _remove_superseded(directory: Path, keys: set[bytes]) -> None:
    """Remove what other weights made of the same pixels: of 5,000 samples at 224 px that is 2 GB a time."""
    kind = directory.name.rpartition("_")[0]
    for other in directory.parent.glob(f"{kind}_*"):
        if other != directory and remove_rows(other, keys):
            logger.info("Removed %s: these samples' features are those of other weights now", other)


def _fill(
    store: RowStore,
    trunk: nn.Module,
    samples: SampleSet,
    keys: list[bytes],
    context: Context,
    learner: Learner,
) -> NDArray[np.int64]:
    """The row of each sample; those that are missing are computed."""
    with store.writing():
        rows = store.sound_rows(set(keys))
        missing = list({key: index for index, key in enumerate(keys) if key not in rows}.values())
        context.reporter.advance(len(samples) - len(missing))
        for index, features in _compute(trunk, samples, missing, context, learner):
            rows[keys[index]] = store.append(keys[index], features)
            context.reporter.advance(1)
    return np.array([rows[key] for key in keys], np.int64)


@torch.inference_mode()
def _compute(
    trunk: nn.Module, samples: SampleSet, wanted: list[int], context: Context, learner: Learner
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Index and features of the samples, as bits of bfloat16 (height, width, channels)."""
    pieces = [np.array(wanted[start : start + _BATCH_SIZE]) for start in range(0, len(wanted), _BATCH_SIZE)]
    for chosen, images in zip(pieces, prefetch(samples, pieces, context.runtime.device), strict=True):
        with context.runtime.autocast():
            features = trunk(prepare(images, learner.config))
        bits = features.to(torch.bfloat16).permute(0, 2, 3, 1).contiguous().view(torch.int16).cpu().numpy()
        yield from zip(chosen, bits, strict=True)
