"""What all benchmarks share: options, the machine's description, the table and the JSON file."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torchvision

from benchmarks.arms import Figures

QUICK_SIZE = 32
MOST_COLUMNS = 9


@dataclass(frozen=True)
class Options:
    """How to measure."""

    device: str
    quick: bool  # see that it runs; the figures mean nothing
    runs: int
    xrays: Path | None
    sizes: tuple[int, ...] = ()

    def px(self, *own: int) -> tuple[int, ...]:
        """The image sizes to measure at: those asked for, or a benchmark's own."""
        return (QUICK_SIZE,) if self.quick else self.sizes or own


@dataclass
class Report:
    """Rows of one benchmark, with words on what they mean."""

    name: str
    about: str
    rows: list[dict[str, Any]] = field(default_factory=list)


def machine() -> dict[str, Any]:
    """The machine, as far as it matters to figures."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text(encoding="utf-8").splitlines() if cpu.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": [round(value, 1) for value in os.getloadavg()],
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "torchvision": str(torchvision.__version__),
        "python": platform.python_version(),
        "time": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, smallest, largest, of how many, and each of them."""
    return {
        "median": statistics.median(values),
        "least": min(values),
        "most": max(values),
        "runs": len(values),
        "values": list(values),
    }


def ratios(
    measured: Mapping[str, Sequence[Figures]], above: str, below: str, figure: str = "rate"
) -> dict[str, Any]:
    """The ratio of two arms, formed in each run of turns, so that the machine's moods cancel out."""
    pairs = zip(measured[above], measured[below], strict=True)
    return spread([one[figure] / other[figure] for one, other in pairs])


def main(documentation: str | None, measure: Callable[[Options], Report]) -> None:
    """The command line of one benchmark."""
    parser = argparse.ArgumentParser(
        description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    arguments = parser.parse_args()
    run([measure], arguments)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that all benchmarks take."""
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument(
        "--quick", action="store_true", help="only check that it runs; the figures are meaningless"
    )
    parser.add_argument("--runs", type=int, help="turns of each comparison (3; quick: 1)")
    parser.add_argument(
        "--px", type=int, nargs="+", default=[], help="image sizes, in the place of each benchmark's own"
    )
    parser.add_argument("--xrays", type=Path, help="zip of chest X-rays (IMIL_TEST_XRAYS); else phantoms")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")


def run(benchmarks: Sequence[Callable[[Options], Report]], arguments: argparse.Namespace) -> None:
    """Run benchmarks, print a table of each and write the JSON file."""
    runs = arguments.runs or (1 if arguments.quick else 3)
    archive = archive_of(arguments.xrays)
    options = Options(arguments.device, arguments.quick, runs, archive, tuple(arguments.px))
    written: dict[str, Any] = {"quick": arguments.quick, "benchmarks": []}
    for measure in benchmarks:
        before = machine()
        report = measure(options)
        print(f"\n{report.name}: {report.about}\n{_one_line(before)}\n", flush=True)
        if report.rows:
            print(table(report.rows), flush=True)
        written["benchmarks"].append({**asdict(report), "machine": before})
        if arguments.json:
            arguments.json.write_text(json.dumps(written, indent=1), encoding="utf-8")


def archive_of(given: Path | None) -> Path | None:
    """The zip of X-rays that is given, or that IMIL_TEST_XRAYS names; None: there is none."""
    named = given or os.environ.get("IMIL_TEST_XRAYS")
    place = Path(named) if named else None
    return next(iter(sorted(place.glob("*.zip"))), None) if place and place.is_dir() else place


def group_of(row: Mapping[str, str]) -> str:
    """The patient of a row of their table; patients are numbered apart for each subtype."""
    return f"{row['patient']}/{row['subtype']}"


def _one_line(values: Mapping[str, Any]) -> str:
    return "; ".join(f"{name} {value}" for name, value in values.items() if value is not None)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a Markdown table, or as its columns where there is too much to say of each."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, *([_cell(row.get(name, "")) for name in names] for row in rows)]
    if len(names) > MOST_COLUMNS:
        lines = [list(line) for line in zip(*lines, strict=True)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: Any) -> str:
    """A spread is shown as median (least to most, of how many)."""
    if not isinstance(value, Mapping):
        return _short(value) if isinstance(value, float) else str(value)
    extent = f"{_short(value['least'])} to {_short(value['most'])}, " if value["runs"] > 1 else ""
    return f"{_short(value['median'])} ({extent}n={value['runs']})"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
