"""How many threads the CPU is best used with, now."""

from __future__ import annotations

import time

import torch
from torch import nn

from imil_backend.learning.child.state.learner import Learner
from imil_backend.learning.child.steps.batch_norm import freeze_statistics
from imil_backend.learning.inputs.augmentation import prepare
from imil_backend.learning.inputs.data import SampleSet
from imil_backend.learning.networks.runtime import Runtime

_IMAGES = 4
_ROUNDS = 2


def keep_faster_threads(learner: Learner, samples: SampleSet, runtime: Runtime) -> None:
    """Try one thread against all of them on what is trained, and stay with the faster.

    Beside a busy neighbour threads that wait for each other can be ten times slower than one alone. The
    network's weights and running statistics stay as they are.
    """
    threads = torch.get_num_threads()
    if runtime.device.type != "cpu" or threads == 1:
        return
    network = learner.network
    images = prepare(samples.images(slice(_IMAGES), runtime.device), learner.config)
    freeze_statistics(network)
    _seconds(network, images, runtime)  # the first pass also maps memory
    passes = []
    for count in (threads, 1) * _ROUNDS:
        torch.set_num_threads(count)
        passes.append((_seconds(network, images, runtime), count))
    torch.set_num_threads(min(passes)[1])
    network.zero_grad(set_to_none=True)


def _seconds(network: nn.Module, images: torch.Tensor, runtime: Runtime) -> float:
    network.train()
    began = time.perf_counter()
    with runtime.autocast():
        outputs = network(images)
    torch.autograd.backward(outputs.float().sum())
    return time.perf_counter() - began
