"""1 and 2: training throughput against the plain loop, the bare step, and the large matrix product.

    python -m benchmarks.training [--quick] [--runs N] ... (see --help)

Plain: ImageFolder, PIL, DataLoader with and without workers, float32, SGD, started as users start it. Ours:
an epoch from the filled cache (the same for all files of one content), in the environment of a training
child, like the floor. Progressive: the mean rate of a training whose thirds have three image sizes.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.arms import Arm, Figures, in_turns
from benchmarks.loops import MICRO_BATCH, STATISTICS_BATCHES
from benchmarks.pictures import write_pictures
from benchmarks.report import Options, Report, main, ratios, spread

SOURCES = {"224": None, "1024": (1024, 1024), "2000x2500": (2000, 2500)}  # width and height of the files
EPOCHS, IMAGES = 10, 5000  # of the whole training that is computed from the rates

Measured = Mapping[str, Sequence[Figures]]


def measure(options: Options) -> Report:
    """Measure every size; a row for each kind of files."""
    report = Report(
        "training",
        "images/s of an epoch's steps; ratios run by run; the last two columns are computed from the rates: "
        f"{EPOCHS} epochs of {IMAGES} images, decoding and statistics counted in",
    )
    for size in options.px(224, 128, 96):
        names = ["2000x2500"] if options.quick else list(SOURCES) if size == 224 else ["224"]
        report.rows += _measure(options, size, names)
    return report


def _measure(options: Options, size: int, names: Sequence[str]) -> list[dict[str, object]]:
    """One size: the plain loops on each kind of files, and what does not depend on them once."""
    count = 32 if options.quick else 2048 if options.device == "cuda" else 96
    seconds = 0.1 if options.quick else 5 if options.device == "cuda" else 20  # some steps of seven seconds
    workers = max(2, min(8, (os.cpu_count() or 2)))
    common = {"size": size, "device": options.device}
    kinds, arms = {}, []
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            directory = Path(scratch) / name / "pictures"
            kinds[name] = write_pictures(directory, options.xrays, count, SOURCES[name])
            files = {"directory": str(directory), **common}
            arms += [
                _plain(f"{name}, plain", files, 0),
                _plain(f"{name}, workers", files, workers),
                Arm(f"{name}, decoding", "benchmarks.loops:decoding", files),
            ]
        ours = {**files, "cache": f"{scratch}/cache"}
        arms += [
            Arm("ours", "benchmarks.loops:our_training", {**ours, "seconds": seconds}),
            Arm("progressive", "benchmarks.loops:our_progressive", ours),
            Arm("product", "benchmarks.loops:product", _product(options, seconds)),
        ]
        measured = in_turns(arms, options.runs)
    images = STATISTICS_BATCHES * MICRO_BATCH[options.device]
    statistics = [each["statistics_s"] * images / min(count, images) for each in measured["ours"]]
    return [
        {"px": size, "images": kind, **_row(measured, name, workers, statistics)}
        for name, kind in kinds.items()
    ]


def _plain(name: str, files: Mapping[str, object], workers: int) -> Arm:
    return Arm(name, "benchmarks.loops:plain_training", {**files, "workers": workers}, as_child=False)


def _row(measured: Measured, name: str, workers: int, statistics: Sequence[float]) -> dict[str, object]:
    plain = f"{name}, plain"
    better = max((plain, f"{name}, workers"), key=lambda arm: _rates(measured, arm)["median"])
    return {
        "plain": _rates(measured, plain),
        f"plain, {workers} workers": _rates(measured, f"{name}, workers"),
        "ours": _rates(measured, "ours"),
        "progressive": _rates(measured, "progressive"),
        "bare step": spread([each["step"] for each in measured["ours"]]),
        "ours / better plain": ratios(measured, "ours", better),
        "ours / bare step": spread([each["rate"] / each["step"] for each in measured["ours"]]),
        "step / product": ratios(measured, "ours", "product", "tflops"),
        "decoding once": _rates(measured, f"{name}, decoding"),
        "statistics, s an epoch": spread(statistics),
        "whole training, ours / plain": _whole(measured, name, better, "ours", statistics),
        "whole training, progressive / plain": _whole(measured, name, better, "progressive", statistics),
    }


def _rates(measured: Measured, arm: str) -> dict[str, Any]:
    return spread([each["rate"] for each in measured[arm]])


def _whole(
    measured: Measured, name: str, better: str, arm: str, statistics: Sequence[float]
) -> dict[str, Any]:
    """How many times as fast a whole training is, from each run's rates."""
    rates = zip(measured[better], measured[f"{name}, decoding"], measured[arm], statistics, strict=True)
    return spread(
        [
            (EPOCHS * IMAGES / plain["rate"])
            / (IMAGES / decoded["rate"] + EPOCHS * (IMAGES / own["rate"] + seconds))
            for plain, decoded, own, seconds in rates
        ]
    )


def _product(options: Options, seconds: float) -> dict[str, object]:
    side = 256 if options.quick else 8192 if options.device == "cuda" else 2048
    return {"device": options.device, "side": side, "seconds": seconds}


if __name__ == "__main__":
    main(__doc__, measure)
