"""4: a training's first epoch with an empty cache against later ones, and memory, beside the plain loop.

    python -m benchmarks.cache [--quick] [--runs N] ... (see --help)

Ours: the cache is filled, then two epochs are trained, each with its statistics. Plain: two epochs over the
files, without workers. The files themselves have just been written, so the system holds them in memory.
Memory is each process's largest resident set, mapped files counted in, and what CUDA held at its most.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch

from benchmarks.arms import Arm, Figures, in_turns
from benchmarks.loops import learner_of, loader_of, plain_step, recipe_of, wait
from benchmarks.pictures import cached, write_pictures
from benchmarks.report import Options, Report, main, ratios, spread
from imil_backend.learning.child.steps.epoch import train_epoch
from imil_backend.learning.networks.runtime import start_runtime

SOURCE = (2000, 2500)  # width and height of the files


def measure(options: Options) -> Report:
    """Measure at one size."""
    rows = [_measure(options, size) for size in options.px(224)]
    return Report("cache", "seconds of epochs; memory in MB", rows)


def _measure(options: Options, size: int) -> dict[str, object]:
    count = 32 if options.quick else 2048 if options.device == "cuda" else 64
    with tempfile.TemporaryDirectory() as scratch:
        kind = write_pictures(Path(scratch) / "pictures", options.xrays, count, SOURCE)
        given = {"directory": f"{scratch}/pictures", "size": size, "device": options.device}
        measured = in_turns(
            [
                Arm("plain", "benchmarks.cache:plain_epochs", given, as_child=False),
                Arm("ours", "benchmarks.cache:our_epochs", given),
            ],
            options.runs,
        )
    row: dict[str, object] = {"px": size, "images": f"{count} {kind}"}
    for figure in ("decoding", "first", "later"):
        row[f"ours, {figure}"] = spread([each[figure] for each in measured["ours"]])
    row["ours, first / later"] = spread([each["first"] / each["later"] for each in measured["ours"]])
    row["plain, first"] = spread([each["first"] for each in measured["plain"]])
    row["plain / ours, first"] = ratios(measured, "plain", "ours", "first")
    row["plain / ours, later"] = ratios(measured, "plain", "ours", "later")
    for name, runs in measured.items():
        for memory in sorted({name for name in runs[0] if name.endswith("MB")}):
            row[f"{name}, {memory}"] = spread([each[memory] for each in runs])
    return row


def our_epochs(directory: str, size: int, device: str) -> Figures:
    """Seconds of filling the cache, of the first epoch with that, and of the second."""
    recipe = recipe_of(size, device)
    runtime = start_runtime(device, "auto", deterministic=False)
    learner = learner_of(recipe, runtime)
    with tempfile.TemporaryDirectory() as cache:
        began = time.perf_counter()
        samples = cached(Path(directory), Path(cache), recipe)
        decoding = time.perf_counter() - began
        ends = []
        for epoch in (1, 2):
            train_epoch(learner, samples, recipe, runtime, epoch, lambda _: None)
            wait(device)
            ends.append(time.perf_counter())
        return {"decoding": decoding, "first": ends[0] - began, "later": ends[1] - ends[0], **_memory(device)}


def plain_epochs(directory: str, size: int, device: str) -> Figures:
    """Seconds of two epochs of the plain loop."""
    step, loader = plain_step(device), loader_of(directory, size, device, 0, shuffle=True)
    times = [time.perf_counter()]
    for _ in range(2):
        for images, labels in loader:
            step(images, labels)
        wait(device)
        times.append(time.perf_counter())
    return {"first": times[1] - times[0], "later": times[2] - times[1], **_memory(device)}


def _memory(device: str) -> Figures:
    """The most that this process has held, in MB; `getrusage` would count the process that started it too."""
    found = {}
    status = Path("/proc/self/status")
    if status.exists():  # Linux
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        found["peak RSS, MB"] = int(lines["VmHWM"].split()[0]) / 1024
    if device == "cuda":
        found["peak CUDA, MB"] = torch.cuda.max_memory_allocated() / 2**20
    return found


if __name__ == "__main__":
    main(__doc__, measure)
