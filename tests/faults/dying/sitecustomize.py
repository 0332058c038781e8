"""Kills its own process, as by kill -9, once at each step that the environment names. For tests alone.

IMIL_TEST_DIES: steps such as "before conclude,after conclude", and the phases of a training such as
"phase evaluating". IMIL_TEST_DEATHS: a directory that remembers which deaths have been died.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

WORKER_STEPS = {
    "bring_in_line": "loop.rounds.training",
    "prepare_round_training": "loop.rounds.training",
    "run_round_training": "loop.rounds.training",
    "conclude": "loop.rounds.training",
    "write_report": "loop.rounds.report",
    "ensure_workflow": "loop.rounds.lifecycle",
    "push_round": "loop.rounds.push",
}


def die(step: str) -> None:
    """Die, if it is asked for and has not been done."""
    if step not in os.environ["IMIL_TEST_DIES"].split(","):
        return
    try:
        (Path(os.environ["IMIL_TEST_DEATHS"]) / step.replace(" ", "-")).touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def deadly(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def step(*args: Any, **kwargs: Any) -> Any:
        die(f"before {name}")
        result = function(*args, **kwargs)
        die(f"after {name}")
        return result

    return step


def make_worker_deadly() -> None:
    for name, place in WORKER_STEPS.items():
        module = importlib.import_module(f"imil_backend.{place}")
        setattr(module, name, deadly(name, getattr(module, name)))


def make_training_deadly() -> None:
    from imil_backend.learning.child.reporting import Reporter

    begin = Reporter.begin

    def begin_or_die(self: Reporter, phase: str, *args: Any, **kwargs: Any) -> None:
        begin(self, phase, *args, **kwargs)
        die(f"phase {phase}")

    Reporter.begin = begin_or_die  # type: ignore[method-assign]


if "IMIL_TEST_DIES" in os.environ:
    if "worker" in sys.orig_argv and Path(sys.orig_argv[1]).name == "imil":
        make_worker_deadly()
    elif sys.orig_argv[1:3] == ["-m", "imil_backend.learning.child"]:
        make_training_deadly()
