"""3: prediction of a whole split from the cache against the bare forward pass and a plain float32 loop.

python -m benchmarks.mining [--quick] [--runs N] ... (see --help)
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.arms import Arm, in_turns
from benchmarks.pictures import write_pictures
from benchmarks.report import Options, Report, main, ratios, spread


def measure(options: Options) -> Report:
    """Measure at 224 px, or at what is asked for."""
    rows = [_measure(options, size) for size in options.px(224)]
    return Report("mining", "images/s of a whole split; ratios run by run", rows)


def _measure(options: Options, size: int) -> dict[str, object]:
    count = 32 if options.quick else 8192 if options.device == "cuda" else 128
    common = {"size": size, "device": options.device}
    with tempfile.TemporaryDirectory() as scratch:
        pictures = Path(scratch) / "pictures"
        kind = write_pictures(pictures, options.xrays, count, None)
        plain = {"directory": str(pictures), **common}
        ours = {**plain, "cache": f"{scratch}/cache"}
        seconds = 0.1 if options.quick else 10
        arms = [
            Arm("plain", "benchmarks.loops:plain_prediction", plain, as_child=False),
            Arm("ours", "benchmarks.loops:our_prediction", ours),
            Arm("forward", "benchmarks.loops:bare_forward", {**common, "seconds": seconds}),
        ]
        measured = in_turns(arms, options.runs)
    row: dict[str, object] = {"px": size, "images": kind}
    row.update({name: spread([each["rate"] for each in runs]) for name, runs in measured.items()})
    row["ours / plain"] = ratios(measured, "ours", "plain")
    row["ours / forward"] = ratios(measured, "ours", "forward")
    return row


if __name__ == "__main__":
    main(__doc__, measure)
