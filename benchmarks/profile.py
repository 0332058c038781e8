"""Where the time of a training epoch goes, by groups of operators (torch.profiler).

    python -m benchmarks.profile [--quick] [--runs N] ... (see --help)

An epoch from the filled cache, its statistics counted in, in the environment of a training child, after a
small one. On the CPU an operator's own time is that of the thread that calls it; on a GPU it is that of the
kernels that it starts. What is left of the epoch is Python, the gathering of pixels, and on a GPU waiting.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.arms import Arm, Figures, in_turns
from benchmarks.loops import learner_of, recipe_of, wait, warm_up
from benchmarks.pictures import cached, write_pictures
from benchmarks.report import Options, Report, main, spread
from imil_backend.learning.child.steps.epoch import train_epoch
from imil_backend.learning.networks.runtime import start_runtime

GROUPS = {  # by a part of an operator's name, the first that fits
    "convolution, backward": ("convolution_backward", "convolutionbackward"),
    "convolution, forward": ("conv",),
    "batch norm, backward": ("batch_norm_backward", "batchnormbackward"),
    "batch norm, forward": ("batch_norm",),
    "optimizer": ("sgd", "optimizer", "zero_grad"),
    "activations and sums": ("relu", "threshold", "clamp_min", "add"),
    "augmentation, scaling": ("grid", "affine", "upsample", "clamp"),
    "pooling": ("pool", "mean"),
    "classifier and loss": ("linear", "mm", "softmax", "cross_entropy", "nll"),
    "copies and casts": ("copy", "contiguous", "clone", "aten::to", "memcpy", "memset", "fill", "zero_"),
}
OTHERS, REST, WHOLE = "other operators", "outside of operators", "the epoch"


def measure(options: Options) -> Report:
    """Measure at one size; a row for each group."""
    report = Report("profile", "own seconds of operators in an epoch, and their share of it")
    for size in options.px(224):
        report.rows += _measure(options, size)
    return report


def _measure(options: Options, size: int) -> list[dict[str, object]]:
    count = 32 if options.quick else 2048 if options.device == "cuda" else 64
    with tempfile.TemporaryDirectory() as scratch:
        kind = write_pictures(Path(scratch) / "pictures", options.xrays, count, None)
        given = {"directory": f"{scratch}/pictures", "size": size, "device": options.device}
        arm = Arm("profile", "benchmarks.profile:profiled_epoch", given)
        runs = in_turns([arm], options.runs)[arm.name]
    return [
        {
            "px": size,
            "images": f"{count} {kind}",
            "operators": group,
            "seconds": spread([each[group] for each in runs]),
            "share": spread([each[group] / each[WHOLE] for each in runs]),
        }
        for group in sorted(runs[0], key=lambda name: -runs[0][name])
    ]


def profiled_epoch(directory: str, size: int, device: str) -> Figures:
    """Seconds by group of operators."""
    recipe = recipe_of(size, device)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device == "cuda" else [])]
    with tempfile.TemporaryDirectory() as cache:
        samples = cached(Path(directory), Path(cache), recipe)
        runtime = start_runtime(device, "auto", deterministic=False)
        learner = learner_of(recipe, runtime)
        few = samples.select(np.arange(warm_up(device)))
        train_epoch(learner, few, recipe, runtime, 1, lambda _: None)
        wait(device)
        began = time.perf_counter()
        with profile(activities=activities) as profiler:
            train_epoch(learner, samples, recipe, runtime, 2, lambda _: None)
            wait(device)
            seconds = time.perf_counter() - began
    return _by_group(profiler, device, seconds)


def _by_group(profiler: torch.profiler.profile, device: str, seconds: float) -> Figures:
    found = dict.fromkeys([*GROUPS, OTHERS], 0.0)
    for event in profiler.key_averages():
        if event.device_type != DeviceType.CPU:  # a kernel, whose time its operator has
            continue
        own = event.self_device_time_total if device == "cuda" else event.self_cpu_time_total
        found[_group(event.key)] += own / 1e6
    return {**found, REST: max(0.0, seconds - sum(found.values())), WHOLE: seconds}


def _group(operator: str) -> str:
    name = operator.lower()
    return next((group for group, parts in GROUPS.items() if any(part in name for part in parts)), OTHERS)


if __name__ == "__main__":
    main(__doc__, measure)
