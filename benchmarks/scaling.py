"""5: one training process against several, started as a round starts them (torchrun; gloo, NCCL on GPUs).

    python -m benchmarks.scaling [--quick] [--runs N] ... (see --help)

On the CPU both share the same cores: one process with all threads, two with half of them each. On GPUs it is
one against all. Rates are those of the last epoch, with its statistics, as the training itself reports them;
the losses of all epochs must agree, for what is computed does not depend on the number of processes.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.arms import Arm, Figures, in_turns
from benchmarks.loops import BATCH, MICRO_BATCH, recipe_of
from benchmarks.pictures import samples_of, training_job_of, write_pictures
from benchmarks.report import Options, Report, main, ratios, spread
from imil_backend.learning.contract.launch import run_training
from imil_backend.learning.contract.training_job import write_training_job

EPOCHS = 2


def measure(options: Options) -> Report:
    """Measure at one size."""
    report = Report("scaling", "images/s of an epoch with its statistics; ratios run by run")
    processes = torch.cuda.device_count() if options.device == "cuda" else 2
    if processes < 2:
        report.about = "not measured: one GPU has nothing to share out"
        return report
    for size in options.px(224 if options.device == "cuda" else 96):
        report.rows.append(_measure(options, size, processes))
    return report


def _measure(options: Options, size: int, processes: int) -> dict[str, object]:
    held_out = 4
    count = (32 if options.quick else 8192 if options.device == "cuda" else 192) + 2 * held_out
    with tempfile.TemporaryDirectory() as scratch:
        kind = write_pictures(Path(scratch) / "pictures", options.xrays, count, None)
        given = {
            "scratch": scratch,
            "size": size,
            "device": options.device,
            "held_out": held_out,
            "batch_size": max(BATCH[options.device], processes * MICRO_BATCH[options.device]),
        }
        arms = [
            Arm(str(number), "benchmarks.scaling:train", {**given, "processes": number}, as_child=False)
            for number in (1, processes)
        ]
        measured = in_turns(arms, options.runs)
    several = str(processes)
    return {
        "px": size,
        "images": kind,
        "1 process": spread([each["rate"] for each in measured["1"]]),
        f"{several} processes": spread([each["rate"] for each in measured[several]]),
        f"{several} / 1": ratios(measured, several, "1"),
        "losses, ratio": ratios(measured, several, "1", "loss"),
    }


def train(scratch: str, size: int, device: str, held_out: int, batch_size: int, processes: int) -> Figures:
    """A whole training; the rate and the loss of its last epoch."""
    root = Path(scratch)
    recipe = replace(recipe_of(size, device), epochs=EPOCHS, batch_size=batch_size)
    with tempfile.TemporaryDirectory(dir=root) as directory:
        write_training_job(
            Path(directory),
            training_job_of(root / "cache", recipe, device),
            samples_of(root / "pictures", held_out),
        )
        last = run_training(Path(directory), processes=processes)["epochs"][-1]
    return {"rate": last["images_per_second"], "loss": last["train_loss"]}


if __name__ == "__main__":
    main(__doc__, measure)
