"""The loops that are compared: a plain one, ours, and the bare step; each an arm that returns images/s."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from benchmarks.arms import Figures
from benchmarks.pictures import cached
from imil_backend.learning.child.state.learner import Learner, new_learner
from imil_backend.learning.child.steps.batch_norm import freeze_statistics
from imil_backend.learning.child.steps.epoch import train_epoch
from imil_backend.learning.contract.training_job import Recipe
from imil_backend.learning.inference.prediction import predict_split
from imil_backend.learning.inputs.data import SampleSet
from imil_backend.learning.networks.fusion import dtype_of, fused_for_inference
from imil_backend.learning.networks.network import IMAGENET_MEAN, IMAGENET_STD, ModelConfig, build_network
from imil_backend.learning.networks.runtime import Runtime, start_runtime

Step = Callable[[torch.Tensor, torch.Tensor], None]

FLOP_PER_IMAGE = 24.5e9  # of a training step of ResNet-50 at 224 px, forward and backward
BATCH, MICRO_BATCH = {"cpu": 32, "cuda": 256}, {"cpu": 16, "cuda": 256}  # images
STATISTICS_BATCHES = 16  # micro-batches after each epoch; see imil_backend.learning.child.steps.batch_norm


def plain_training(directory: str, size: int, device: str, workers: int) -> Figures:
    """What a user would write, in the style of torchvision's references: one epoch, after a first batch."""
    loader = loader_of(directory, size, device, workers, shuffle=True)
    return _time_loader(loader, plain_step(device), device)


def plain_step(device: str) -> Step:
    """The plain loop's step, of a network and an optimizer of its own."""
    torch.backends.cudnn.benchmark = True
    network = build_network(2, "v1.5").to(device).train()
    optimizer = torch.optim.SGD(network.parameters(), 1e-3, 0.9, weight_decay=1e-4)

    def step(images: torch.Tensor, labels: torch.Tensor) -> None:
        images, labels = (part.to(device, non_blocking=True) for part in (images, labels))
        loss = functional.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        loss.item()  # for the log

    return step


def plain_prediction(directory: str, size: int, device: str) -> Figures:
    """A plain float32 loop over files."""
    network = build_network(2, "v1.5").to(device).eval()

    def step(images: torch.Tensor, labels: torch.Tensor) -> None:
        network(images.to(device)).argmax(1).cpu()

    with torch.no_grad():
        return _time_loader(loader_of(directory, size, device, 0, shuffle=False), step, device)


def our_training(directory: str, cache: str, size: int, device: str, seconds: float) -> Figures:
    """Our epoch from the cache, after a small one, with the bare step before and after it.

    What measuring the statistics adds is told apart. The bare step is measured in the same process: between
    two processes the machine's mood differs by more than the two do.
    """
    recipe = recipe_of(size, device)
    samples = cached(Path(directory), Path(cache), recipe)
    runtime = start_runtime(device, "auto", deterministic=False)
    learner = learner_of(recipe, runtime)
    few = samples.select(np.arange(warm_up(device)))
    train_epoch(learner, few, recipe, runtime, 1, lambda _: None)
    before = _bare_step(learner, recipe, runtime, seconds / 2)
    taken, statistics = _time_epoch(learner, samples, recipe, runtime, 2)
    after = _bare_step(learner, recipe, runtime, seconds / 2)
    step = recipe.batch_size / ((before + after) / 2)
    return {
        "rate": len(samples) / taken,
        "statistics_s": statistics,
        "step": step,
        "tflops": step * FLOP_PER_IMAGE * (size / 224) ** 2 / 1e12,
    }


def _bare_step(learner: Learner, recipe: Recipe, runtime: Runtime, seconds: float) -> float:
    """Seconds of the step alone on one resident batch: forward, backward, SGD."""
    learner.network.train()
    freeze_statistics(learner.network)
    count, device = recipe.micro_batch_size, runtime.device.type
    images = torch.randn(count, 3, recipe.image_size, recipe.image_size, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(count, device=device) % 2

    def step() -> None:
        for _ in range(learner.micro_batches):
            with runtime.autocast():
                logits = learner.network(images)
            torch.autograd.backward(functional.cross_entropy(logits.float(), labels))
        learner.optimizer.step()
        learner.optimizer.zero_grad(set_to_none=True)

    return seconds_of(step, device, seconds)


def our_progressive(directory: str, cache: str, size: int, device: str) -> Figures:
    """The rate over a progressive training: an epoch of each of its three sizes, after a small one each."""
    recipe = replace(recipe_of(size, device), epochs=3, progressive=True)
    samples = cached(Path(directory), Path(cache), recipe)
    runtime = start_runtime(device, "auto", deterministic=False)
    learner = learner_of(recipe, runtime)
    total = 0.0
    few = samples.select(np.arange(warm_up(device)))
    for epoch in range(1, recipe.epochs + 1):
        train_epoch(learner, few, recipe, runtime, epoch, lambda _: None)
        seconds, _ = _time_epoch(learner, samples, recipe, runtime, epoch)
        total += seconds
    return {"rate": recipe.epochs * len(samples) / total}


def decoding(directory: str, size: int, device: str) -> Figures:
    """Filling an empty cache: every file read, checked, decoded, resized and kept."""
    with tempfile.TemporaryDirectory() as cache:
        began = time.perf_counter()
        samples = cached(Path(directory), Path(cache), recipe_of(size, device))
        return {"rate": len(samples) / (time.perf_counter() - began)}


def product(device: str, side: int, seconds: float) -> Figures:
    """A large matrix product in the precision that ours takes."""
    runtime = start_runtime(device, "auto", deterministic=False)
    kind = torch.bfloat16 if runtime.precision == "bfloat16" else torch.float32
    left, right = (torch.randn(side, side, device=device, dtype=kind) for _ in range(2))
    return {"tflops": 2 * side**3 / seconds_of(lambda: left @ right, device, seconds) / 1e12}


def our_prediction(directory: str, cache: str, size: int, device: str) -> Figures:
    """Mining: every sample from the cache."""
    recipe = recipe_of(size, device)
    samples = cached(Path(directory), Path(cache), recipe)
    runtime = start_runtime(device, "auto", deterministic=False)
    network = build_network(2, "v1.5").to(runtime.device)
    predict_split(network, samples.select(np.arange(warm_up(device))), _config(size), runtime, lambda _: None)
    began = time.perf_counter()
    predict_split(network, samples, _config(size), runtime, lambda _: None)
    return {"rate": len(samples) / (time.perf_counter() - began)}


def bare_forward(size: int, device: str, seconds: float) -> Figures:
    """The forward pass alone on one resident batch, of the network that answers."""
    runtime = start_runtime(device, "auto", deterministic=False)
    network = fused_for_inference(build_network(2, "v1.5"), runtime)
    count = _asked_at_once(recipe_of(size, device))
    images = torch.randn(count, 3, size, size, device=device, dtype=dtype_of(network))
    images = images.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        return {"rate": count / seconds_of(lambda: network(images), device, seconds)}


def recipe_of(size: int, device: str) -> Recipe:
    """The recipe that is measured: random weights, batches as the device likes them."""
    return Recipe(
        image_size=size,
        batch_size=BATCH[device],
        micro_batch_size=MICRO_BATCH[device],
        pretrained=False,
    )


def _asked_at_once(recipe: Recipe) -> int:
    """Images of a batch of predictions, as a training asks for them."""
    return 4 * recipe.micro_batch_size


def _config(size: int) -> ModelConfig:
    return ModelConfig(("a", "b"), size, 1, "v1.5")


def learner_of(recipe: Recipe, runtime: Runtime) -> Learner:
    """The network that is measured, ready to be trained."""
    torch.manual_seed(0)
    network = build_network(2, "v1.5")
    pieces = recipe.batch_size // recipe.micro_batch_size
    return new_learner(network, _config(recipe.image_size), recipe, runtime, pieces)


def _time_epoch(
    learner: Learner, samples: SampleSet, recipe: Recipe, runtime: Runtime, epoch: int
) -> tuple[float, float]:
    """Seconds of an epoch's steps, and of measuring the statistics after them."""
    device, done, steps_ended = runtime.device.type, 0, 0.0

    def advance(images: int) -> None:
        nonlocal done, steps_ended
        done += images
        if done == len(samples):
            wait(device)
            steps_ended = time.perf_counter()

    began = time.perf_counter()
    train_epoch(learner, samples, recipe, runtime, epoch, advance)
    wait(device)
    return steps_ended - began, time.perf_counter() - steps_ended


def warm_up(device: str) -> int:
    """Images of the first, untimed step: a batch; a GPU tunes itself to it, a CPU's memory grows to it."""
    return BATCH[device]


def loader_of(directory: str, size: int, device: str, workers: int, *, shuffle: bool) -> DataLoader:
    """Batches of files as a user would load them."""
    steps = [transforms.Resize((size, size)), transforms.ToTensor()]
    steps.append(transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD))
    pictures = ImageFolder(directory, transforms.Compose(steps))
    pin = device == "cuda"
    return DataLoader(pictures, BATCH[device], shuffle=shuffle, num_workers=workers, pin_memory=pin)


def _time_loader(loader: DataLoader, step: Step, device: str) -> Figures:
    size = loader.dataset[0][0].shape
    count = warm_up(device)
    step(torch.zeros(count, *size), torch.zeros(count, dtype=torch.long))
    wait(device)
    began = time.perf_counter()
    for images, labels in loader:
        step(images, labels)
    wait(device)
    return {"rate": len(loader.dataset) / (time.perf_counter() - began)}


def seconds_of(call: Callable[[], object], device: str, seconds: float) -> float:
    """Mean seconds of a call, repeated for so long, after a first one."""
    call()
    wait(device)
    calls, began = 0, time.perf_counter()
    while calls == 0 or time.perf_counter() - began < seconds:
        call()
        if device == "cpu" or calls % 10 == 9:
            wait(device)
        calls += 1
    wait(device)
    return (time.perf_counter() - began) / calls


def wait(device: str) -> None:
    """Until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
