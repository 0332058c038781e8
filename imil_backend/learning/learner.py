"""A network and what changes it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torchvision.models import ResNet

from imil_backend.learning.job import Recipe
from imil_backend.learning.network import ModelConfig
from imil_backend.learning.runtime import Runtime


@dataclass(frozen=True)
class Learner:
    """A network on its device under SGD with momentum."""

    network: ResNet
    replica: nn.Module  # the network, or its wrapper that takes the mean of gradients over processes
    optimizer: torch.optim.Optimizer
    config: ModelConfig
    micro_batches: int  # into which a batch is cut


def new_learner(
    network: ResNet, config: ModelConfig, recipe: Recipe, runtime: Runtime, micro_batches: int
) -> Learner:
    """Put a network on the device and give it an optimizer."""
    replica = runtime.replicate(network)
    optimizer = torch.optim.SGD(
        network.parameters(),
        recipe.learning_rate,
        recipe.momentum,
        weight_decay=recipe.weight_decay,
        fused=runtime.device.type in {"cuda", "cpu"},
    )
    return Learner(network, replica, optimizer, config, micro_batches)
