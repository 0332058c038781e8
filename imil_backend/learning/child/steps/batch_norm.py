"""The batch norms' running statistics, measured after each epoch instead of dragged along.

Moving averages lag behind the weights, come from augmented images that prediction never sees, and differ with
the number of processes. Measured anew with the epoch's last weights on some training images as they are, they
do none of this (Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm").
"""

from __future__ import annotations

import torch
from torch import nn

from imil_backend.learning.child.state.learner import Learner
from imil_backend.learning.contract.training_job import Recipe
from imil_backend.learning.inputs.augmentation import prepare
from imil_backend.learning.inputs.batches import draw_micro_batches
from imil_backend.learning.inputs.data import SampleSet
from imil_backend.learning.inputs.prefetching import prefetch
from imil_backend.learning.networks.runtime import Runtime

_MICRO_BATCHES = 16


def freeze_statistics(network: nn.Module) -> None:
    """Have training leave the running statistics alone; it does not use them."""
    for norm in _norms(network):
        norm.momentum = 0.0


def measure_statistics(
    learner: Learner, samples: SampleSet, recipe: Recipe, runtime: Runtime, epoch: int
) -> None:
    """Set the running statistics to their mean over micro-batches drawn from the training split.

    Which these are depends on seed and epoch alone; each process computes some.
    """
    size = -(-recipe.batch_size // learner.micro_batches)
    drawn = draw_micro_batches(len(samples), size, _MICRO_BATCHES, recipe.seed, epoch)
    own = drawn[runtime.rank :: runtime.world_size]
    norms = _norms(learner.network)
    if not norms:  # the classifier alone has none
        return
    learner.network.train()
    with torch.no_grad(), runtime.autocast():
        for number, images in enumerate(prefetch(samples, own, runtime.device), start=1):
            for norm in norms:
                norm.momentum = 1 / number  # of a mean that so many have gone into
            learner.network(prepare(images, learner.config))
    _merge(norms, len(own) / len(drawn), runtime)


def _merge(norms: list[nn.BatchNorm2d], share: float, runtime: Runtime) -> None:
    """Take the mean over processes, each weighing its share of the micro-batches."""
    if runtime.world_size == 1:
        return
    buffers = [norm.get_buffer(name) for norm in norms for name in ("running_mean", "running_var")]
    merged = runtime.all_reduce(torch.cat(buffers) * share)
    parts = torch.split(merged, [len(buffer) for buffer in buffers])
    for buffer, values in zip(buffers, parts, strict=True):
        buffer.copy_(values)


def _norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
