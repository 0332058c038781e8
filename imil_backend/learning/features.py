"""What the layers that stay as they are make of each sample: computed once, kept, and trained on.

Rows of bfloat16 under the hash of the pixels, blackout and all, in a directory for these very weights: a
round computes anew what was blacked out since, and nothing else. 401 kB a sample at 224 px before layer4.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from imil_backend.images.rows import RowStore
from imil_backend.learning.augmentation import prepare
from imil_backend.learning.context import Context
from imil_backend.learning.data import Dataset, SampleSet
from imil_backend.learning.learner import Learner
from imil_backend.learning.network import Trunk

CODE_VERSION = 1  # raise it when the same weights give other features than before
_BATCH_SIZE = 32


def with_features(context: Context, learner: Learner) -> Context:
    """The context with features in the place of pixels, made where they are missing.

    The layers that make them are in evaluation mode: their batch norms stay as they are too.

    Raises:
        CacheError: they cannot be written.
    """
    trunk = Trunk(learner.whole, context.recipe.trainable).eval()
    store = _store(context, trunk)
    context.reporter.begin("features", sum(len(samples) for samples in context.dataset.splits.values()))
    made = {
        name: _fill(store, trunk, samples, context, learner)
        for name, samples in context.dataset.splits.items()
        if context.runtime.is_first
    }
    shared = context.runtime.share(made)
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


def _fill(
    store: RowStore, trunk: nn.Module, samples: SampleSet, context: Context, learner: Learner
) -> NDArray[np.int64]:
    """The row of each sample; those that are missing are computed."""
    keys = [hashlib.sha256(samples.cached[row].data).digest() for row in samples.rows]
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
    for start in range(0, len(wanted), _BATCH_SIZE):
        chosen = wanted[start : start + _BATCH_SIZE]
        images = samples.images(np.array(chosen), context.runtime.device)
        with context.runtime.autocast():
            features = trunk(prepare(images, learner.config))
        bits = features.to(torch.bfloat16).permute(0, 2, 3, 1).contiguous().view(torch.int16).cpu().numpy()
        yield from zip(chosen, bits, strict=True)
