"""Arms of a comparison: functions that are run in turns, each time in a process of its own.

`python -m benchmarks.arms FUNCTION SETTINGS` is one run; its last line is what was measured, as JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imil_backend.learning.contract.launch import CHILD_ENVIRONMENT

Figures = dict[str, float]


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: a function `module:name` that returns figures, and what it is given."""

    name: str
    function: str
    settings: Mapping[str, Any]
    as_child: bool = True  # started as a training child is; a plain loop is started as users start theirs


def in_turns(arms: Sequence[Arm], runs: int) -> dict[str, list[Figures]]:
    """What each arm measured in each run, by name; the order turns round from run to run."""
    measured: dict[str, list[Figures]] = {arm.name: [] for arm in arms}
    for number in range(runs):
        for arm in arms[:: -1 if number % 2 else 1]:
            measured[arm.name].append(_run(arm))
            print(f"  {arm.name}: {measured[arm.name][-1]}", file=sys.stderr, flush=True)
    return measured


def _run(arm: Arm) -> Figures:
    environment = {**CHILD_ENVIRONMENT, **os.environ} if arm.as_child else dict(os.environ)
    command = [sys.executable, "-m", "benchmarks.arms", arm.function, json.dumps(arm.settings)]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise RuntimeError(f"{arm.name} failed:\n{answer.stderr}")
    figures: Figures = json.loads(answer.stdout.splitlines()[-1])
    return figures


def _main() -> None:
    module, name = sys.argv[1].split(":")
    print(json.dumps(getattr(importlib.import_module(module), name)(**json.loads(sys.argv[2]))))


if __name__ == "__main__":
    _main()
