"""Run benchmarks, or list them.

    python -m benchmarks [--list] [NAME ...] [--device cuda] [--px N ...] [--quick] [--runs N] [--xrays ZIP]
        [--json FILE]

Without names all run; with `--device cuda` those that need torch, torchvision, numpy, pillow and
safetensors alone. `benchmarks.masks`, `benchmarks.accuracy` and `benchmarks.webhook` have commands of their
own.
"""

from __future__ import annotations

import argparse
import importlib

from benchmarks import report

BARE = ("training", "mining", "cache", "scaling", "round", "profile", "spread")
NAMES = (*BARE, "latency")


def main() -> None:
    """The command line."""
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
