"""Where a training begins: at its checkpoint, at another training's intermediate state, or anew."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from imil_backend.errors import WeightsError
from imil_backend.learning.child.context import Context
from imil_backend.learning.child.state.checkpoint import load_state
from imil_backend.learning.child.state.kept import forget_kept
from imil_backend.learning.child.state.learner import Learner, last_layers, new_learner
from imil_backend.learning.child.state.state import (
    TrainingState,
    digest_keys,
    restore_learner,
    state_from_dict,
)
from imil_backend.learning.contract.backbones import BACKBONES
from imil_backend.learning.contract.training_job import CHECKPOINT_FILE, INTERMEDIATE_FILE
from imil_backend.learning.inputs.batches import count_micro_batches
from imil_backend.learning.networks.network import (
    ModelConfig,
    Variant,
    build_network,
    load_backbone,
    read_config,
)

logger = logging.getLogger(__name__)


def begin(context: Context) -> tuple[Learner, TrainingState]:
    """The network and the state to go on from.

    Raises:
        WeightsError: the weights or the intermediate state cannot be used.
    """
    learner, state = first_state(context)
    if context.recipe.trainable != "all":
        learner = last_layers(learner, context.recipe, context.runtime)
    checkpoint = context.directory / CHECKPOINT_FILE
    saved = context.runtime.broadcast(
        _read_checkpoint(context, state) if context.runtime.is_rank_zero else None
    )
    if saved is None:
        if context.runtime.is_rank_zero:
            forget_kept(context.directory)
        return learner, state
    restore_learner(learner, saved, checkpoint)
    return learner, state_from_dict(saved)


def first_state(context: Context) -> tuple[Learner, TrainingState]:
    """The whole network before this training's first epoch.

    Raises:
        WeightsError: the weights or the intermediate state cannot be used.
    """
    state = TrainingState(digest_keys(context.split("train").keys))
    if context.job.resume_from is None:
        return fresh_learner(context), state
    intermediate = Path(context.job.resume_from)
    saved = load_state(intermediate)
    state.epoch = state.first_epoch = int(saved["training"]["epoch"])
    if state.epoch >= context.recipe.epochs:
        raise WeightsError(
            f"{intermediate} is after epoch {state.epoch}, but the recipe has only {context.recipe.epochs}."
        )
    learner = _new_learner(context, saved["config"]["variant"])
    restore_learner(learner, saved, intermediate)
    return learner, state


def fresh_learner(context: Context) -> Learner:
    """A network with ImageNet's weights, or random ones, and a random classifier: from the seed alone.

    Raises:
        WeightsError: the weights cannot be used.
    """
    if context.job.weights is None:
        return _new_learner(context, "v1.5")
    path, wanted = Path(context.job.weights), context.recipe.backbone
    config = read_config(path)
    if config.backbone != wanted:
        raise WeightsError(
            f"{path} holds weights of {BACKBONES[config.backbone].title}, and the recipe asks for "
            f"{BACKBONES[wanted].title}. Fetch those (`imil weights --backbone {wanted}`), or train "
            "without weights (`imil train --from-scratch`)."
        )
    learner = _new_learner(context, config.variant)
    load_backbone(learner.whole, path)
    return learner


def _read_checkpoint(context: Context, fresh: TrainingState) -> dict[str, Any] | None:
    """The state after the last whole epoch; None to start over, as a damaged checkpoint makes it."""
    path = context.directory / CHECKPOINT_FILE
    if not path.exists():
        return None
    try:
        saved = load_state(path)
        why = _why_not(context, fresh, saved)
    except WeightsError as error:
        why = str(error)
    if why is None:
        return saved
    logger.warning("Starting over: %s", why)
    context.reporter.start_over(why)
    return None


def _why_not(context: Context, fresh: TrainingState, saved: dict[str, Any]) -> str | None:
    """Why a checkpoint cannot be gone on from, or None."""
    if saved["training"].keys() != vars(fresh).keys():
        return "The checkpoint is from another version of this program."
    if saved["training"]["samples"] != fresh.samples:
        return "The readable samples have changed since the checkpoint was written."
    for beside in _kept_beside(context, state_from_dict(saved)):
        if not beside.exists():
            return f"{beside}, a part of the checkpoint, is missing."
    return None


def _kept_beside(context: Context, state: TrainingState) -> Iterator[Path]:
    """What a training has written before such a checkpoint; a backup made meanwhile may lack it."""
    best = state.best_epoch(after=context.recipe.mining_epoch)
    if best is not None:
        yield context.best_file(best)
    if state.first_epoch == 0 and state.epoch >= context.recipe.mining_epoch:
        yield context.directory / INTERMEDIATE_FILE


def _new_learner(context: Context, variant: Variant) -> Learner:
    job, recipe = context.job, context.recipe
    config = ModelConfig(
        classes=job.classes,
        image_size=recipe.image_size,
        channels=job.channels,
        variant=variant,
        name=job.name,
        parent=job.parent,
        round=job.round_number,
        backbone=recipe.backbone,
    )
    torch.manual_seed(recipe.seed)
    network = build_network(len(job.classes), variant, recipe.backbone)
    pieces = count_micro_batches(recipe, context.micro_batch_size, context.runtime.world_size)
    # Only what is trained may be wrapped for several processes.
    runtime = context.runtime if recipe.trainable == "all" else replace(context.runtime, world_size=1)
    return new_learner(network, config, recipe, runtime, pieces)
