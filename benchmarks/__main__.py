"""Run benchmarks, or list them.

    python -m benchmarks [--list] [NAME ...] [--device cuda] [--px N ...] [--quick] [--runs N] [--xrays ZIP]
        [--json FILE]

    python -m benchmarks accuracy|correction|dashboard|growth|masks|null|painting ...
    python -m benchmarks scale|slow|steady|webhook ...

Without names all run; with `--device cuda` those that need torch, torchvision, numpy, pillow and
safetensors alone. The last eleven have options of their own, which `--help` after their name tells.
"""

from __future__ import annotations

import argparse
import importlib
import runpy
import sys

BARE = ("training", "mining", "cache", "scaling", "round", "profile", "spread")
NAMES = (*BARE, "convolution", "latency")
COMMANDS = (
    "accuracy",
    "correction",
    "dashboard",
    "growth",
    "masks",
    "null",
    "painting",
    "scale",
    "slow",
    "steady",
    "webhook",
)  # with options of their own


def main() -> None:
    """The command line."""
    if sys.argv[1:2] and sys.argv[1] in COMMANDS:
        name = sys.argv.pop(1)
        runpy.run_module(f"benchmarks.{name}", run_name="__main__", alter_sys=True)
        return
    from benchmarks import report  # brings torch, which the others may not need

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--list", action="store_true", help="list them and end")
    report.add_options(parser)
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(NAMES)
    if unknown:
        parser.error(f"There is no benchmark {', '.join(sorted(unknown))}.")
    names = arguments.names or (NAMES if arguments.device == "cpu" else BARE)
    modules = [importlib.import_module(f"benchmarks.{name}") for name in names]
    if arguments.list:
        for name, module in zip(names, modules, strict=True):
            print(f"{name:10} {(module.__doc__ or '').splitlines()[0]}")
        return
    report.run([module.measure for module in modules], arguments)


if __name__ == "__main__":
    main()
