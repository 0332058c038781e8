"""The loops that are compared: a plain one, ours, and the bare step; each an arm that returns images/s."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from benchmarks.arms import Figures
from benchmarks.pictures import cached
from imil_backend.learning.epoch import train_epoch
from imil_backend.learning.folding import dtype_of, for_answers
from imil_backend.learning.job import Recipe
from imil_backend.learning.learner import Learner, new_learner
from imil_backend.learning.network import IMAGENET_MEAN, IMAGENET_STD, ModelConfig, build_network
from imil_backend.learning.prediction import predict_split
from imil_backend.learning.runtime import Runtime, start_runtime
from imil_backend.learning.statistics import freeze_statistics

FLOP_PER_IMAGE = 24.5e9  # of a training step of ResNet-50 at 224 px, forward and backward
BATCH, MICRO_BATCH = 32, 16


def plain_training(directory: str, size: int, device: str, workers: int) -> Figures:
    """What a user would write, in the style of torchvision's references: one epoch, after a first batch."""
    loader = _loader(directory, size, workers, shuffle=True)
    network = build_network(2, "v1.5").to(device).train()
    optimizer = torch.optim.SGD(network.parameters(), 1e-3, 0.9, weight_decay=1e-4)

    def step(images: torch.Tensor, labels: torch.Tensor) -> None:
        loss = functional.cross_entropy(network(images.to(device)), labels.to(device))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        loss.item()  # for the log

    return _time_loader(loader, step, device)


def plain_prediction(directory: str, size: int, device: str) -> Figures:
    """A plain float32 loop over files."""
    network = build_network(2, "v1.5").to(device).eval()

    def step(images: torch.Tensor, labels: torch.Tensor) -> None:
        network(images.to(device)).argmax(1).cpu()

    with torch.no_grad():
        return _time_loader(_loader(directory, size, 0, shuffle=False), step, device)


def our_training(directory: str, cache: str, size: int, device: str) -> Figures:
    """Our epoch from the cache, after a small one; what measuring the statistics adds is told apart."""
    recipe = _recipe(size)
    samples = cached(Path(directory), Path(cache), recipe)
    runtime = start_runtime(device, "auto", deterministic=False)
    learner = _learner(recipe, runtime)
    train_epoch(learner, samples.select(np.arange(BATCH)), recipe, runtime, 1, lambda _: None)
    ticks = []

    def advance(images: int) -> None:
        _wait(device)
        ticks.append((time.perf_counter(), images))

    began = time.perf_counter()
    train_epoch(learner, samples, recipe, runtime, 2, advance if device == "cpu" else lambda _: None)
    _wait(device)
    ended = time.perf_counter()
    if not ticks:  # on a GPU nothing waits for the device in between
        return {"rate": len(samples) / (ended - began), "statistics_s": 0.0}
    return {"rate": len(samples) / (ticks[-1][0] - began), "statistics_s": ended - ticks[-1][0]}


def bare_step(size: int, device: str, seconds: float) -> Figures:
    """The step alone on one resident batch: forward, backward, SGD, in the precision that ours takes."""
    recipe = _recipe(size)
    runtime = start_runtime(device, "auto", deterministic=False)
    learner = _learner(recipe, runtime)
    learner.network.train()
    freeze_statistics(learner.network)
    images = torch.randn(MICRO_BATCH, 3, size, size, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(MICRO_BATCH, device=device) % 2

    def step() -> None:
        for _ in range(BATCH // MICRO_BATCH):
            with runtime.autocast():
                logits = learner.network(images)
            torch.autograd.backward(functional.cross_entropy(logits.float(), labels))
        learner.optimizer.step()
        learner.optimizer.zero_grad(set_to_none=True)

    rate = BATCH / _seconds_of(step, device, seconds)
    return {"rate": rate, "tflops": rate * FLOP_PER_IMAGE * (size / 224) ** 2 / 1e12}


def product(device: str, side: int, seconds: float) -> Figures:
    """A large matrix product in the precision that ours takes."""
    runtime = start_runtime(device, "auto", deterministic=False)
    kind = torch.bfloat16 if runtime.precision == "bfloat16" else torch.float32
    left, right = (torch.randn(side, side, device=device, dtype=kind) for _ in range(2))
    return {"tflops": 2 * side**3 / _seconds_of(lambda: left @ right, device, seconds) / 1e12}


def our_prediction(directory: str, cache: str, size: int, device: str) -> Figures:
    """Mining: every sample from the cache."""
    recipe = _recipe(size)
    samples = cached(Path(directory), Path(cache), recipe)
    runtime = start_runtime(device, "auto", deterministic=False)
    network = build_network(2, "v1.5").to(runtime.device)
    predict_split(network, samples.select(np.arange(BATCH)), _config(size), runtime, lambda _: None)
    began = time.perf_counter()
    predict_split(network, samples, _config(size), runtime, lambda _: None)
    return {"rate": len(samples) / (time.perf_counter() - began)}


@torch.inference_mode()
def bare_forward(size: int, device: str, seconds: float) -> Figures:
    """The forward pass alone on one resident batch, of the network that answers."""
    runtime = start_runtime(device, "auto", deterministic=False)
    network = for_answers(build_network(2, "v1.5"), runtime)
    images = torch.randn(BATCH, 3, size, size, device=device, dtype=dtype_of(network))
    images = images.contiguous(memory_format=torch.channels_last)
    return {"rate": BATCH / _seconds_of(lambda: network(images), device, seconds)}


def _recipe(size: int) -> Recipe:
    return Recipe(image_size=size, batch_size=BATCH, micro_batch_size=MICRO_BATCH, pretrained=False)


def _config(size: int) -> ModelConfig:
    return ModelConfig(("a", "b"), size, 1, "v1.5")


def _learner(recipe: Recipe, runtime: Runtime) -> Learner:
    torch.manual_seed(0)
    network = build_network(2, "v1.5")
    return new_learner(network, _config(recipe.image_size), recipe, runtime, BATCH // MICRO_BATCH)


def _loader(directory: str, size: int, workers: int, *, shuffle: bool) -> DataLoader:
    steps = [transforms.Resize((size, size)), transforms.ToTensor()]
    steps.append(transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD))
    pictures = ImageFolder(directory, transforms.Compose(steps))
    return DataLoader(pictures, BATCH, shuffle=shuffle, num_workers=workers)


def _time_loader(
    loader: DataLoader, step: Callable[[torch.Tensor, torch.Tensor], None], device: str
) -> Figures:
    size = loader.dataset[0][0].shape
    step(torch.zeros(BATCH, *size), torch.zeros(BATCH, dtype=torch.long))
    _wait(device)
    began = time.perf_counter()
    for images, labels in loader:
        step(images, labels)
    _wait(device)
    return {"rate": len(loader.dataset) / (time.perf_counter() - began)}


def _seconds_of(call: Callable[[], object], device: str, seconds: float) -> float:
    """Mean seconds of a call, repeated for so long, after a first one."""
    call()
    _wait(device)
    calls, began = 0, time.perf_counter()
    while calls == 0 or time.perf_counter() - began < seconds:
        call()
        if device == "cpu" or calls % 10 == 9:
            _wait(device)
        calls += 1
    _wait(device)
    return (time.perf_counter() - began) / calls


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
