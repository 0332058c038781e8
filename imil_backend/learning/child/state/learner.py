"""A network, or the last layers of one, and what changes it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from imil_backend.learning.contract.training_job import Recipe
from imil_backend.learning.networks.network import ModelConfig, Tail
from imil_backend.learning.networks.runtime import Runtime


@dataclass(frozen=True)
class Learner:
    """What is trained, on its device under SGD with momentum."""

    network: nn.Module  # the whole network, or its last layers, which are fed with features
    whole: nn.Module
    # The trained network, compiled, or its wrapper that takes the mean of gradients over processes.
    replica: nn.Module
    optimizer: torch.optim.Optimizer
    config: ModelConfig
    micro_batches: int  # into which a batch is cut
    compiled: bool = False


def new_learner(
    network: nn.Module, config: ModelConfig, recipe: Recipe, runtime: Runtime, micro_batches: int
) -> Learner:
    """Put a network on the device and give it an optimizer."""
    replica = runtime.replicate(network)
    return Learner(network, network, replica, _optimizer(network, recipe, runtime), config, micro_batches)


def last_layers(learner: Learner, recipe: Recipe, runtime: Runtime) -> Learner:
    """The learner of the layers that the recipe trains, with the momentum that they have."""
    tail = Tail(learner.whole, learner.config.backbone, recipe.trainable)
    optimizer = _optimizer(tail, recipe, runtime)
    for parameter in tail.parameters():
        optimizer.state[parameter] = learner.optimizer.state[parameter]
    return replace(learner, network=tail, replica=runtime.replicate(tail), optimizer=optimizer)


def _optimizer(network: nn.Module, recipe: Recipe, runtime: Runtime) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        network.parameters(),
        recipe.learning_rate,
        recipe.momentum,
        weight_decay=recipe.weight_decay,
        fused=runtime.device.type in {"cuda", "cpu"},
    )
