"""Masks for images that nobody painted: for counterexamples in training, and for the shortcut test."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imil_backend.errors import LearningError
from imil_backend.learning.child.context import Context
from imil_backend.learning.child.spreading.spread import count_images, spread_masks
from imil_backend.learning.contract.proposed import (
    LEAST_CONFIDENCE,
    PROPOSED_FILE,
    Proposed,
    read_proposed,
    write_proposed,
)
from imil_backend.learning.contract.training_job import MASKS_FILE, Split
from imil_backend.learning.inputs.exchange import Masks

_SPLITS: tuple[Split, ...] = ("train", "validation")  # the test split is looked at once, at the end

logger = logging.getLogger(__name__)


def with_proposals(context: Context) -> Context:
    """The context with masks proposed from the painted ones, where there are any that can be learned from.

    The validation split has them for the shortcut test, and with counterexamples for the choice of the best
    epoch; training, if the recipe spreads. If it does and there are none, nobody weighs more either: weight
    without spread harms where there is no shortcut.
    """
    painted = context.dataset.originals["train"].masks
    if painted is None:
        return _without_weight(context)
    # Painted inside and outside, one network cannot learn both: the more frequent way is spread.
    kinds = painted.outside[painted.rows >= 0]
    outside = bool(kinds.mean() > 0.5)
    indices = np.flatnonzero((painted.rows >= 0) & (painted.outside == outside))
    if context.runtime.is_rank_zero:
        proposed = _kept(context) or _propose(context, painted, indices)
        logger.info("%s", proposed.reason)
        if proposed.usable:
            _write_coverage(context, painted, proposed)
    made = context.runtime.broadcast(proposed if context.runtime.is_rank_zero else None)
    assert made is not None  # noqa: S101  # the first process shares what it made
    if not made.usable:
        return _without_weight(context)
    return _with_masks(context, painted, made, outside=outside)


def _without_weight(context: Context) -> Context:
    recipe = context.recipe
    if not recipe.spread or recipe.confirmed_weight == 1:
        return context
    logger.info("No masks are spread, so that confirmed images are drawn as often as others.")
    return replace(context, job=replace(context.job, recipe=replace(recipe, confirmed_weight=1)))


def _keys(context: Context) -> tuple[str, ...]:
    return tuple(key for split in _SPLITS for key in context.dataset.originals[split].keys)


def _kept(context: Context) -> Proposed | None:
    """What this training has proposed before it was interrupted."""
    path = context.directory / PROPOSED_FILE
    if not path.exists():
        return None
    try:
        keys, proposed = read_proposed(path)
    except LearningError as error:
        logger.warning("Proposing again: %s", error)
        return None
    return proposed if keys == _keys(context) else None


def _propose(context: Context, painted: Masks, indices: NDArray[np.int64]) -> Proposed:
    originals = context.dataset.originals
    rows = np.concatenate([originals[split].rows for split in _SPLITS])
    context.reporter.begin("proposing", count_images(len(rows), len(indices)))
    proposed = spread_masks(
        np.asarray(originals["train"].cached),
        rows,
        indices,
        painted.coverage[painted.rows[indices]],
        [group for split in _SPLITS for group in originals[split].groups],
        seed=context.recipe.seed,
        device=context.runtime.device,
        advance=context.reporter.advance,
    )
    write_proposed(context.directory / PROPOSED_FILE, _keys(context), proposed)
    return proposed


def _coverage_file(context: Context) -> Path:
    return context.directory / MASKS_FILE


def _write_coverage(context: Context, painted: Masks, proposed: Proposed) -> None:
    """All masks at the size that is trained on: what was painted, then a row for each sample."""
    size, count = context.recipe.image_size, len(_keys(context))
    shape = (len(painted.coverage) + count, size, size)
    rows = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
        _coverage_file(context), "w+", np.uint8, shape
    )
    rows[: len(painted.coverage)] = painted.coverage
    for start in range(0, count, 256):
        part = np.arange(start, min(start + 256, count))
        rows[len(painted.coverage) + part] = proposed.coverage(part, size)
    rows.flush()


def _with_masks(context: Context, painted: Masks, proposed: Proposed, *, outside: bool) -> Context:
    coverage = np.load(_coverage_file(context), mmap_mode="r")
    trusted = proposed.confidence >= LEAST_CONFIDENCE
    rows = np.where(trusted, len(painted.coverage) + np.arange(len(trusted)), -1)
    train, validation = (context.dataset.originals[split] for split in _SPLITS)
    own, theirs = rows[: len(train)], rows[len(train) :]
    was_painted = painted.rows >= 0
    masks = Masks(
        coverage,
        np.where(was_painted, painted.rows, own),
        np.where(was_painted, painted.outside, outside),
    )
    originals = {
        **context.dataset.originals,
        "train": replace(train, masks=masks),
        "validation": replace(validation, masks=Masks(coverage, theirs, np.full(len(validation), outside))),
    }
    splits = dict(context.dataset.splits)
    if context.recipe.exchanges:
        splits["validation"] = replace(splits["validation"], masks=originals["validation"].masks)
        if context.recipe.spread:
            splits["train"] = replace(splits["train"], masks=masks)
    return replace(context, dataset=replace(context.dataset, splits=splits, originals=originals))
