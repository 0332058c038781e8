"""torch.compile, where a training is long enough for it."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from typing import cast

import torch
from torch import nn

from imil_backend.learning.child.context import Context
from imil_backend.learning.child.state.learner import Learner
from imil_backend.learning.inputs.batches import count_visits

# Compiling takes a minute or more. On a GPU a tenth is hoped for, of about 10 ms a micro-batch at 224 px: an
# estimate, not a measurement. On the CPU 0.93 to 1.1 times the speed was measured, so there it never pays.
MICRO_BATCHES_TO_PAY = 100_000

logger = logging.getLogger(__name__)


def compiled_if_it_pays(context: Context, learner: Learner, epochs_left: int) -> Learner:
    """The learner; its network is compiled for training if that pays for the epochs that are left.

    What is saved, evaluated and asked is the network as it was: both share their weights.
    """
    recipe = context.recipe
    visits = count_visits(context.split("train").labels, recipe)
    micro_batches = epochs_left * learner.micro_batches * -(-visits // recipe.batch_size)
    if (
        recipe.deterministic
        or context.runtime.world_size > 1
        or not _pays(context.runtime.device, micro_batches)
    ):
        return learner
    torch._dynamo.config.suppress_errors = True  # what cannot be compiled is run as it is, with a warning
    logger.info("Compiling for %d micro-batches", micro_batches)
    return replace(learner, replica=cast(nn.Module, torch.compile(learner.replica)), compiled=True)


def _pays(device: torch.device, micro_batches: int) -> bool:
    """Whether there is so much to do on a GPU, and the C compiler that torch.compile needs."""
    has_compiler = any(shutil.which(name) for name in ("cc", "gcc", "clang"))
    return device.type == "cuda" and micro_batches >= MICRO_BATCHES_TO_PAY and has_compiler
