"""The last two stages of ResNet-50: PyTorch's convolutions, all as matrix products, and as IMIL chooses.

python -m benchmarks.convolution [--quick] [--runs N] [--px N ...] ... (see --help)

Forward and backward of a micro-batch of 16, and answering of one image and of 32 (batch norms folded), in the
environment of a training process; the sides take turns.
"""

from __future__ import annotations

import sys
from functools import partial

import torch

from benchmarks.arms import Arm, Figures, in_turns
from benchmarks.loops import MICRO_BATCH, seconds_of
from benchmarks.report import Options, Report, main, ratios
from imil_backend.learning.contract.training_job import Precision
from imil_backend.learning.networks import convolution
from imil_backend.learning.networks.fusion import dtype_of, fused_for_inference
from imil_backend.learning.networks.network import build_network
from imil_backend.learning.networks.runtime import Runtime

STAGES = {"layer3": (512, 8), "layer4": (1024, 16)}  # channels that come in, and the image's side over theirs
# By side: the most outputs, and the fewest channels
SIDES = {
    "convolutions": (0, 0),
    "products": (sys.maxsize, 0),
    "IMIL": (convolution.MOST_OUTPUTS, convolution.FEWEST_CHANNELS),
}
WORK = {"trained": MICRO_BATCH["cpu"], "one image": 1, "32 images": 32}


def measure(options: Options) -> Report:
    """Measure both stages in both precisions, on the CPU."""
    rows = [
        _measure(options, size, stage, precision)
        for size in options.px(64, 96, 128, 224)
        for stage in STAGES
        for precision in ("float32", "bfloat16")
    ]
    about = "how many times as fast as PyTorch's convolutions, all as products / as IMIL chooses; run by run"
    return Report("convolution", about, rows)


def _measure(options: Options, size: int, stage: str, precision: str) -> dict[str, object]:
    common = {"size": size, "stage": stage, "precision": precision, "seconds": 0.01 if options.quick else 0.5}
    arms = [Arm(side, "benchmarks.convolution:stage_times", {**common, "side": side}) for side in SIDES]
    measured = in_turns(arms, options.runs)
    row: dict[str, object] = {"px": size, "stage": stage, "precision": precision}
    for work in WORK:
        for name in ("products", "IMIL"):
            row[f"{work}, {name}"] = ratios(measured, "convolutions", name, work)
    return row


def stage_times(size: int, stage: str, precision: Precision, side: str, seconds: float) -> Figures:
    """Seconds of each kind of work."""
    convolution.MOST_OUTPUTS, convolution.FEWEST_CHANNELS = SIDES[side]
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
    return times


def _images(count: int, channels: int, side: int) -> torch.Tensor:
    return torch.rand(count, channels, side, side).contiguous(memory_format=torch.channels_last)


if __name__ == "__main__":
    main(__doc__, measure)
