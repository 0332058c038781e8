"""A worker that dies, as by kill -9, once after every step of a round; then one that lives.

usage: dying_worker.py DIRECTORY, in which an open round has been answered. Each life is a process of its own,
forked from one that has imported everything. Prints how each of them ended.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loop_fakes import RESULT, FakeLabelStudio, write_results
from sqlalchemy import select

from imil_backend.config import Settings
from imil_backend.learning.contract.training_job import read_samples
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.queues.engine import prepare
from imil_backend.loop.rounds import lifecycle, push, report, training
from imil_backend.loop.running.worker import running
from imil_backend.store.tables import Round

STEPS = {
    "bring_in_line": training,
    "prepare_round_training": training,
    "run_round_training": training,
    "conclude": training,
    "write_report": report,
    "ensure_workflow": lifecycle,
    "push_round": push,
}
DIED = 9
PATIENCE = 100.0  # seconds of a life, on a machine that has much else to do


def live(directory: Path, dies_after: str | None) -> None:
    """Work until the step is done; without one, until the next round is open."""
    backend = Backend(
        Settings(_env_file=None, data_dir=directory, label_studio_url="http://label-studio.test")
    )
    backend.__dict__["label_studio"] = FakeLabelStudio(directory / "label_studio.json")
    training.run_training = train  # type: ignore[assignment]
    prepare(backend)
    if dies_after:
        module = STEPS[dies_after]
        setattr(module, dies_after, dying(getattr(module, dies_after)))
    with running(backend):
        if dies_after:
            # What the step brings about is seen before the step has returned, so it says nothing here.
            time.sleep(PATIENCE)
        elif is_next_round_open(backend):
            os._exit(0)
    os._exit(1)


def is_next_round_open(backend: Backend) -> bool:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with backend.store.begin() as session:
            states = session.scalars(select(Round.state).order_by(Round.number)).all()
        if states == ["closed", "open"]:
            return True
        time.sleep(0.05)
    return False


def train(directory: Path, **_: Any) -> dict[str, Any]:
    with (directory / "trainings").open("a") as file:
        file.write("x")
    write_results(directory, read_samples(directory), ["train-5", "train-6"])
    return RESULT


def dying(step: Callable[..., Any]) -> Callable[..., Any]:
    def do_it_and_die(*arguments: Any, **named: Any) -> Any:
        step(*arguments, **named)
        os._exit(DIED)

    return do_it_and_die


def main() -> None:
    directory = Path(sys.argv[1])
    for step in [*STEPS, None]:
        child = os.fork()
        if not child:
            try:
                live(directory, step)
            except BaseException:  # noqa: BLE001
                traceback.print_exc()
                os._exit(2)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{step} {os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
