"""What the layers that stay as they are make of each sample: computed once, kept, and trained on.

Rows of bfloat16 under the hash of the pixels, blackout and all, in a directory for these very weights: a
round computes anew what was blacked out since, and nothing else. 401 kB a sample at 224 px before layer4.
Counterexamples are a few views of each sample, drawn once.
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

from imil_backend.images.row_store import RowStore, remove_rows
from imil_backend.learning.child.context import Context
from imil_backend.learning.child.state.learner import Learner
from imil_backend.learning.contract.training_job import Split
from imil_backend.learning.inference.shortcuts import draw_once
from imil_backend.learning.inputs.augmentation import prepare
from imil_backend.learning.inputs.batches import draw_views
from imil_backend.learning.inputs.data import Draw, SampleSet
from imil_backend.learning.inputs.exchange import NOBODY
from imil_backend.learning.inputs.prefetching import prefetch
from imil_backend.learning.networks.network import Trunk

CODE_VERSION = 1  # raise it when the same weights give other features than before
_BATCH_SIZE = 32
_VIEWS = 4  # counterexamples of a sample

logger = logging.getLogger(__name__)


def with_features(context: Context, learner: Learner) -> Context:
    """The context with features in the place of pixels, made where they are missing.

    The layers that make them are in evaluation mode: their batch norms stay as they are too.

    Raises:
        CacheError: they cannot be written.
    """
    trunk = Trunk(learner.whole, learner.config.backbone, context.recipe.trainable).eval()
    store = _store(context, trunk)
    made = _make(store, trunk, context, learner) if context.runtime.is_rank_zero else {}
    shared = context.runtime.broadcast(made)
    cached = store.rows
    splits = {}
    for name, samples in context.dataset.splits.items():
        rows, *views = shared[name]
        others = np.stack(views) if views else None
        splits[name] = replace(samples, cached=cached, rows=rows, views=others, masks=None)
    return replace(context, dataset=replace(context.dataset, splits=splits))


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
) -> dict[Split, list[NDArray[np.int64]]]:
    """The row of each sample of each split as it is, then those of its other views, -1 where it has none."""
    looks = {name: _looks(context, name) for name in context.dataset.splits}
    keys = {name: [_digests(context.split(name), look) for look in found] for name, found in looks.items()}
    every = [key for found in keys.values() for digests in found for key in digests]
    _remove_superseded(store.directory, set(every))
    context.reporter.begin("features", len(every))
    return {
        name: [
            _fill(store, trunk, context.split(name), look, digests, context, learner)
            for look, digests in zip(found, keys[name], strict=True)
        ]
        for name, found in looks.items()
    }


def _looks(context: Context, name: Split) -> list[Draw]:
    """All samples as they are, then those that have other views in each of them."""
    samples = context.split(name)
    everyone = np.arange(len(samples))
    looks = [Draw(everyone, np.full(len(samples), NOBODY))]
    if samples.views is None and samples.masks is None:
        return looks
    if name != "train":
        return [*looks, draw_once(samples, context.recipe.seed)]
    always = replace(context.recipe, correction_share=1.0)
    for number in range(_VIEWS if samples.views is None else len(samples.views)):
        views = draw_views(samples, everyone, always, number)
        looks.append(Draw(np.flatnonzero(views != NOBODY), views[views != NOBODY]))
    return looks


def _digests(samples: SampleSet, look: Draw) -> list[bytes]:
    digests = []
    for piece in _pieces(look, np.arange(len(look.indices))):
        images = samples.images(piece, torch.device("cpu")).numpy()
        digests += [hashlib.sha256(image.data).digest() for image in images]
    return digests


def _pieces(look: Draw, places: NDArray[np.int64]) -> list[Draw]:
    cuts = [places[start : start + _BATCH_SIZE] for start in range(0, len(places), _BATCH_SIZE)]
    return [Draw(look.indices[cut], look.views[cut]) for cut in cuts]


def _remove_superseded(directory: Path, keys: set[bytes]) -> None:
    """Remove what other weights made of the same pixels: of 5,000 samples at 224 px that is 2 GB a time."""
    kind = directory.name.rpartition("_")[0]
    for other in directory.parent.glob(f"{kind}_*"):
        if other != directory and remove_rows(other, keys):
            logger.info("Removed %s: features of these samples from other weights", other)


def _fill(
    store: RowStore,
    trunk: nn.Module,
    samples: SampleSet,
    look: Draw,
    keys: list[bytes],
    context: Context,
    learner: Learner,
) -> NDArray[np.int64]:
    """The row of each sample in this look, -1 where it has none; those that are missing are computed."""
    with store.writing():
        rows = store.sound_rows(set(keys))
        missing = list({key: place for place, key in enumerate(keys) if key not in rows}.values())
        context.reporter.advance(len(keys) - len(missing))
        pieces = _pieces(look, np.array(missing, np.int64))
        for place, features in zip(missing, _compute(trunk, samples, pieces, context, learner), strict=True):
            rows[keys[place]] = store.append(keys[place], features)
            context.reporter.advance(1)
    found = np.full(len(samples), -1, np.int64)
    found[look.indices] = [rows[key] for key in keys]
    return found


@torch.inference_mode()
def _compute(
    trunk: nn.Module, samples: SampleSet, pieces: list[Draw], context: Context, learner: Learner
) -> Iterator[NDArray[Any]]:
    """Features of what is drawn, as bits of bfloat16 (height, width, channels)."""
    for images in prefetch(samples, pieces, context.runtime.device):
        with context.runtime.autocast():
            features = trunk(prepare(images, learner.config))
        bits = features.to(torch.bfloat16).permute(0, 2, 3, 1).contiguous().view(torch.int16).cpu().numpy()
        yield from bits
