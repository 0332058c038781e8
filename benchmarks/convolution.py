"""The last two stages of ResNet-50, with PyTorch's convolutions and as matrix products.

python -m benchmarks.convolution [--quick] [--runs N] [--px N ...] ... (see --help)

Forward and backward of a micro-batch of 16, and answering of one image and of 32 (batch norms folded), in the
environment of a training process; both sides take turns. Products are computed here whatever their size; IMIL
does so up to `MOST_OUTPUTS`.
"""

from __future__ import annotations

import sys
from functools import partial

import torch

from benchmarks.arms import Arm, Figures, in_turns
from benchmarks.loops import MICRO_BATCH, seconds_of
from benchmarks.report import Options, Report, main, ratios, spread
from imil_backend.learning.contract.training_job import Precision
from imil_backend.learning.networks import convolution
from imil_backend.learning.networks.fusion import dtype_of, fused_for_inference
from imil_backend.learning.networks.network import build_network
from imil_backend.learning.networks.runtime import Runtime

STAGES = {"layer3": (512, 8), "layer4": (1024, 16)}  # channels that come in, and the image's side over theirs
WORK = {"trained": MICRO_BATCH["cpu"], "one image": 1, "32 images": 32}


def measure(options: Options) -> Report:
    """Measure both stages in both precisions, on the CPU."""
    rows = [
        _measure(options, size, stage, precision)
        for size in options.px(64, 96, 224)
        for stage in STAGES
        for precision in ("float32", "bfloat16")
    ]
    about = "milliseconds, and how many times as fast the products are; ratios run by run"
    return Report("convolution", about, rows)


def _measure(options: Options, size: int, stage: str, precision: str) -> dict[str, object]:
    common = {"size": size, "stage": stage, "precision": precision, "seconds": 0.01 if options.quick else 1.0}
    arms = [
        Arm(name, "benchmarks.convolution:stage_times", {**common, "products": name == "products"})
        for name in ("convolutions", "products")
    ]
    measured = in_turns(arms, options.runs)
    row: dict[str, object] = {"px": size, "stage": stage, "precision": precision}
    for work in WORK:
        row[f"{work}, ms"] = spread([each[work] for each in measured["products"]])
        row[f"{work}, times as fast"] = ratios(measured, "convolutions", "products", work)
    return row


def stage_times(size: int, stage: str, precision: Precision, products: bool, seconds: float) -> Figures:
    """Milliseconds of each kind of work."""
    convolution.MOST_OUTPUTS = sys.maxsize if products else 0
    runtime = Runtime(torch.device("cpu"), precision)
    trained = runtime.replicate(build_network(2, "v1.5").get_submodule(stage)).train()
    answering = fused_for_inference(trained, runtime)
    channels, scale = STAGES[stage]

    batches = {work: _images(count, channels, size // scale) for work, count in WORK.items()}

    def train() -> None:
        with runtime.autocast():
            outputs = trained(batches["trained"])
        torch.autograd.backward(outputs.float().square().mean())

    times = {"trained": seconds_of(train, "cpu", seconds)}
    with torch.inference_mode():
        for work in ("one image", "32 images"):
            times[work] = seconds_of(
                partial(answering, batches[work].to(dtype_of(answering))), "cpu", seconds
            )
    return {work: 1000 * time for work, time in times.items()}


def _images(count: int, channels: int, side: int) -> torch.Tensor:
    return torch.rand(count, channels, side, side).contiguous(memory_format=torch.channels_last)


if __name__ == "__main__":
    main(__doc__, measure)
