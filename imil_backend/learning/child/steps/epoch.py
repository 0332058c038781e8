"""One epoch of training: the loop over batches, the same on one process and on many.

Every batch is cut into micro-batches (`batches.py`), dealt out over the processes; gradients are summed, each
image weighing the same. What is kept of each image is put down at its position of the epoch in a tensor of
zeros on the device, and the processes' tensors are added up once, at the end.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from imil_backend.errors import LearningError
from imil_backend.learning.child.state.learner import Learner
from imil_backend.learning.child.steps.batch_norm import freeze_statistics, measure_statistics
from imil_backend.learning.contract.backbones import BACKBONES
from imil_backend.learning.contract.training_job import Recipe
from imil_backend.learning.inputs.augmentation import normalize, prepare, vary
from imil_backend.learning.inputs.batches import (
    EpochPlan,
    check_processes,
    class_weights,
    draw_views,
    plan_epoch,
)
from imil_backend.learning.inputs.data import Advance, Draw, SampleSet
from imil_backend.learning.inputs.prefetching import prefetch
from imil_backend.learning.inputs.published import published
from imil_backend.learning.networks.network import ModelConfig
from imil_backend.learning.networks.runtime import Runtime


@dataclass(frozen=True)
class EpochRecord:
    """What an epoch tells of its training split."""

    loss: float  # mean over all visits
    margins: NDArray[np.float32]  # (samples,) of the logits as trained on; see metrics.margins
    images: int  # visited
    seconds: float


def learning_rate(recipe: Recipe, progress: float) -> float:
    """Linear warm-up, then half a cosine down to zero; `progress` counts epochs."""
    warm_up = min(1.0, progress / recipe.warmup_epochs) if recipe.warmup_epochs else 1.0
    return recipe.learning_rate * warm_up * 0.5 * (1 + math.cos(math.pi * progress / recipe.epochs))


def image_size(recipe: Recipe, epoch: int) -> int:
    """Pixels a side that an epoch is trained on: all of them, if the recipe is not progressive.

    Else about half of them in the first third of the epochs and three quarters in the second, multiples of
    what the network divides by (as in Howard's and FFCV's recipes). Evaluation is at the full size always.
    """
    left = (recipe.epochs - epoch) / recipe.epochs
    if not recipe.progressive or left < 1 / 3:
        return recipe.image_size
    share = 3 / 4 if left < 2 / 3 else 1 / 2
    unit = BACKBONES[recipe.backbone].smallest_image
    return min(recipe.image_size, max(unit, round(recipe.image_size * share / unit) * unit))


def train_epoch(
    learner: Learner,
    samples: SampleSet,
    recipe: Recipe,
    runtime: Runtime,
    epoch: int,
    advance: Advance,
) -> EpochRecord:
    """Train through epoch number `epoch` (1-based) of the recipe's schedule.

    Raises:
        DatasetError: there are too few samples for so many processes.
        LearningError: the loss is no longer a finite number.
    """
    began = time.monotonic()
    plan = plan_epoch(samples.labels, recipe, epoch, learner.micro_batches, samples.confirmed)
    check_processes(plan, runtime.world_size)
    own = [batch[runtime.rank :: runtime.world_size] for batch in plan.batches]
    views = draw_views(samples, plan.order, recipe, epoch)
    visits = _Visits(plan, views, samples, recipe, learner.config, runtime, image_size(recipe, epoch))
    draws = [Draw(plan.order[positions], views[positions]) for batch in own for positions in batch]
    images = prefetch(samples, draws, runtime.device)
    learner.network.train()
    freeze_statistics(learner.network)
    for step, batch in enumerate(plan.batches):
        progress = epoch - 1 + (step + 1) / len(plan.batches)
        for group in learner.optimizer.param_groups:
            group["lr"] = learning_rate(recipe, progress)
        _accumulate(learner, own[step], images, visits, _size(batch))
        learner.optimizer.step()
        learner.optimizer.zero_grad(set_to_none=True)
        advance(_size(batch))
    measure_statistics(learner, samples, recipe, runtime, epoch)
    return visits.record(time.monotonic() - began)


def _accumulate(
    learner: Learner, own: Sequence[slice], images: Iterator[Tensor], visits: _Visits, batch_size: int
) -> None:
    """Add up a batch's gradients over this process's micro-batches; with the last one over processes."""
    for positions in own:
        waits = isinstance(learner.replica, DistributedDataParallel) and positions is not own[-1]
        with learner.replica.no_sync() if waits else nullcontext():  # type: ignore[operator]
            loss = visits.loss(learner.replica, positions, next(images))
            # Wrapped networks take the mean over processes, where the sum is meant.
            torch.autograd.backward(loss * (visits.runtime.world_size / batch_size))


def _size(batch: Sequence[slice]) -> int:
    return int(batch[-1].stop - batch[0].start)


class _Visits:
    """What happens at each position of an epoch, and what is kept of it."""

    def __init__(
        self,
        plan: EpochPlan,
        views: NDArray[np.int64],
        samples: SampleSet,
        recipe: Recipe,
        config: ModelConfig,
        runtime: Runtime,
        size: int,
    ) -> None:
        device = runtime.device
        self.runtime = runtime
        self._size = size
        self._plan, self._samples, self._config = plan, samples, config
        self._smoothing = recipe.label_smoothing
        self._labels = torch.from_numpy(samples.labels[plan.order]).to(device)
        self._alter = published(recipe.augmentation)
        self._targets = self._labels
        if samples.targets is not None:  # all views are augmented ones
            self._targets = torch.from_numpy(samples.targets[views, plan.order]).to(device)
        self._parameters = (
            None if plan.augmentation is None else torch.from_numpy(plan.augmentation).to(device)
        )
        self._weights = None
        if recipe.balance == "loss":
            self._weights = torch.from_numpy(class_weights(samples.labels, len(config.classes))).to(device)
        self._losses = torch.zeros(len(plan.order), device=device)
        self._margins = torch.zeros(len(plan.order), device=device)

    def loss(self, network: nn.Module, positions: slice, images: Tensor) -> Tensor:
        """The summed loss of the images at these positions; their losses and margins are put down."""
        inputs, targets = self._inputs(positions, images)
        with self.runtime.autocast():
            logits = network(inputs)
        logits = logits.float()
        losses = functional.cross_entropy(
            logits, targets, self._weights, reduction="none", label_smoothing=self._smoothing
        )
        self._losses[positions] = losses.detach()
        self._margins[positions] = _margins(logits.detach(), self._labels[positions])
        return losses.sum()

    def _inputs(self, positions: slice, images: Tensor) -> tuple[Tensor, Tensor]:
        """What the network is fed, and what it is to answer: classes, or shares of each."""
        parameters = None if self._parameters is None else self._parameters[positions]
        if self._alter is None or self._plan.seeds is None or images.dtype != torch.uint8:
            return prepare(images, self._config, parameters, self._size), self._targets[positions]
        pixels, targets = self._alter(
            vary(images, parameters, self._size),
            self._labels[positions],
            self._plan.seeds[positions].tolist(),
            len(self._config.classes),
        )
        return normalize(pixels, self._config), targets

    def record(self, seconds: float) -> EpochRecord:
        """All processes' visits together."""
        losses = self.runtime.all_reduce(self._losses).cpu().numpy()
        margins = self.runtime.all_reduce(self._margins).cpu().numpy()
        loss = float(losses.mean(dtype=np.float64))
        if not math.isfinite(loss):
            raise LearningError(
                f"The training diverged (its loss is {loss}): set a lower learning_rate (`imil train "
                "--fresh --learning-rate`)."
            )
        return EpochRecord(loss, self._plan.per_sample(margins, len(self._samples)), len(losses), seconds)


def _margins(logits: Tensor, labels: Tensor) -> Tensor:
    """`metrics.margins` on the device."""
    own = logits.gather(1, labels[:, None])
    return (own - logits.scatter(1, labels[:, None], -math.inf).amax(1, keepdim=True))[:, 0]
