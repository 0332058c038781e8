"""What the layers that stay as they are make of each sample: computed once, kept, and trained on.

Rows of bfloat16 under the hash of the pixels, blackout and all, in a directory for these very weights: a
round computes anew what was blacked out since, and nothing else. 401 kB a sample at 224 px before layer4.
Training samples have a few augmented views, some of them counterexamples, drawn once.
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
from imil_backend.learning.inference.looks import Look, Part, looks_at
from imil_backend.learning.inputs.augmentation import prepare
from imil_backend.learning.networks.network import Trunk

CODE_VERSION = 1  # raise it when the same weights give other features than before

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
        (rows, _), *others = shared[name]
        views = np.stack([found for found, _ in others]) if others else None
        targets = [target for _, target in others if target is not None]
        splits[name] = replace(
            samples,
            cached=cached,
            rows=rows,
            views=views,
            masks=None,
            targets=np.stack(targets) if targets else None,
            drawn=name == "train",
        )
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


# The row of each sample, -1 where it has none; and what it is labelled with if the view was mixed.
_Found = tuple[NDArray[np.int64], NDArray[np.float32] | None]


def _make(store: RowStore, trunk: nn.Module, context: Context, learner: Learner) -> dict[Split, list[_Found]]:
    """Of each split its samples as they are, then their other views."""
    looks = {
        name: looks_at(samples, name, context.recipe, len(context.job.classes))
        for name, samples in context.dataset.splits.items()
    }
    seen = {name: [_digests(look) for look in found] for name, found in looks.items()}
    every = [key for found in seen.values() for digests, _ in found for key in digests]
    _remove_superseded(store.directory, set(every))
    context.reporter.begin("features", len(every))
    return {
        name: [
            (_fill(store, trunk, look, digests, context, learner), targets)
            for look, (digests, targets) in zip(found, seen[name], strict=True)
        ]
        for name, found in looks.items()
    }


def _digests(look: Look) -> tuple[list[bytes], NDArray[np.float32] | None]:
    """The hash of each image, and the targets of all samples if they are mixed."""
    digests, targets = [], list[NDArray[np.float32]]()
    for part in look.parts(np.arange(len(look.draw.indices))):
        images, own = part.images(torch.device("cpu"))
        digests += [hashlib.sha256(image.data).digest() for image in images.numpy()]
        if own is not None:
            targets.append(own)
    if not targets:
        return digests, None
    found = np.concatenate(targets)
    of_samples = np.empty_like(found)
    of_samples[look.draw.indices] = found
    return digests, of_samples


def _remove_superseded(directory: Path, keys: set[bytes]) -> None:
    """Remove what other weights made of the same pixels: of 5,000 samples at 224 px that is 2 GB a time."""
    kind = directory.name.rpartition("_")[0]
    for other in directory.parent.glob(f"{kind}_*"):
        if other != directory and remove_rows(other, keys):
            logger.info("Removed %s: features of these samples from other weights", other)


def _fill(
    store: RowStore,
    trunk: nn.Module,
    look: Look,
    keys: list[bytes],
    context: Context,
    learner: Learner,
) -> NDArray[np.int64]:
    """The row of each sample in this look, -1 where it has none; those that are missing are computed."""
    with store.writing():
        rows = store.sound_rows(set(keys))
        missing = list({key: place for place, key in enumerate(keys) if key not in rows}.values())
        context.reporter.advance(len(keys) - len(missing))
        parts = look.parts(np.array(missing, np.int64))
        wanted = set(missing)
        for place, features in _compute(trunk, parts, context, learner):
            if place in wanted:
                rows[keys[place]] = store.append(keys[place], features)
                context.reporter.advance(1)
    found = np.full(len(look.samples), -1, np.int64)
    found[look.draw.indices] = [rows[key] for key in keys]
    return found


@torch.inference_mode()
def _compute(
    trunk: nn.Module, parts: list[Part], context: Context, learner: Learner
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Places, and features there as bits of bfloat16 (height, width, channels)."""
    device = context.runtime.device
    for part in parts:
        images, _ = part.images(device)
        with context.runtime.autocast():
            features = trunk(prepare(images, learner.config))
        bits = features.to(torch.bfloat16).permute(0, 2, 3, 1).contiguous().view(torch.int16).cpu().numpy()
        yield from zip(part.places.tolist(), bits, strict=True)
