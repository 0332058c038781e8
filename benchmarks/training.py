"""1 and 2: training throughput against the plain loop, the bare step, and the large matrix product.

    python -m benchmarks.training [--device cuda] [--quick] [--runs N] [--xrays ZIP] [--json FILE]

Plain: ImageFolder, PIL, DataLoader with and without workers, float32, SGD, started as users start it. Ours:
an epoch from the filled cache, in the environment of a training child, like the floor.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from benchmarks.arms import Arm, in_turns
from benchmarks.pictures import write_pictures
from benchmarks.report import Options, Report, main, ratios, spread

SOURCES = {"224": None, "1024": (1024, 1024), "2000x2500": (2000, 2500)}
CASES = ((96, "224"), (128, "224"), (224, "224"), (224, "1024"), (224, "2000x2500"))


def measure(options: Options) -> Report:
    """Measure every case."""
    report = Report("training", "images/s of whole epochs; ratios run by run")
    count = 32 if options.quick else 4096 if options.device == "cuda" else 96
    for size, source in CASES[-1:] if options.quick else CASES:
        with tempfile.TemporaryDirectory() as scratch:
            pictures = Path(scratch) / "pictures"
            kind = write_pictures(pictures, options.xrays, count, SOURCES[source])
            report.rows.append(_case(options, 32 if options.quick else size, pictures, kind))
    return report


def _case(options: Options, size: int, pictures: Path, kind: str) -> dict[str, object]:
    seconds = 0.1 if options.quick else 5
    common = {"size": size, "device": options.device}
    plain = {"directory": str(pictures), **common}
    ours = {**plain, "cache": str(pictures.parent / "cache")}
    workers = max(2, min(8, (os.cpu_count() or 2)))
    arms = [
        Arm("plain", "benchmarks.loops:plain_training", {**plain, "workers": 0}, as_child=False),
        Arm("workers", "benchmarks.loops:plain_training", {**plain, "workers": workers}, as_child=False),
        Arm("ours", "benchmarks.loops:our_training", ours),
        Arm("step", "benchmarks.loops:bare_step", {**common, "seconds": seconds}),
        Arm("product", "benchmarks.loops:product", _product(options, seconds)),
    ]
    measured = in_turns(arms, options.runs)
    better = max(
        ("plain", "workers"), key=lambda name: spread([each["rate"] for each in measured[name]])["median"]
    )
    rates = {
        name: spread([each["rate"] for each in measured[name]])
        for name in ("plain", "workers", "ours", "step")
    }
    return {
        "px": size,
        "images": kind,
        "plain": rates["plain"],
        f"plain, {workers} workers": rates["workers"],
        "ours": rates["ours"],
        "bare step": rates["step"],
        "ours / better plain": ratios(measured, "ours", better),
        "ours / bare step": ratios(measured, "ours", "step"),
        "step / product": ratios(measured, "step", "product", "tflops"),
        "statistics, s an epoch": spread([each["statistics_s"] for each in measured["ours"]]),
    }


def _product(options: Options, seconds: float) -> dict[str, object]:
    side = 256 if options.quick else 8192 if options.device == "cuda" else 2048
    return {"device": options.device, "side": side, "seconds": seconds}


if __name__ == "__main__":
    main(__doc__, measure)
