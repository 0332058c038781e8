"""A worker whose trainings last until a file named `go` is there.

usage: working.py DIRECTORY ID [DEAD], in which an open round has been answered; IMIL_DATABASE_URL names the
database. With DEAD it takes over what the worker of that id left. Runs until it is killed.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from loop_fakes import RESULT, URL, FakeLabelStudio, write_results

from imil_backend.config import Settings
from imil_backend.errors import RoundError
from imil_backend.learning.contract.training_job import read_samples
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.queues.engine import prepare
from imil_backend.loop.queues.launching import take_over
from imil_backend.loop.rounds import training
from imil_backend.loop.running.worker import running


def train(directory: Path, **_: Any) -> dict[str, Any]:
    with (directory / "trainings").open("a") as file:
        file.write(f"{sys.argv[2]}\n")
    while not (Path(sys.argv[1]) / "go").exists():
        time.sleep(0.02)
    write_results(directory, read_samples(directory))
    return RESULT


def main() -> None:
    directory, worker_id, *dead = sys.argv[1:]
    backend = Backend(Settings(_env_file=None, data_dir=directory, label_studio_url=URL))
    backend.__dict__["label_studio"] = FakeLabelStudio(Path(directory) / "label_studio.json")
    training.run_training = train  # type: ignore[assignment]
    prepare(backend)
    with running(backend, worker_id):
        try:
            moved = [take_over(backend, each) for each in dead]
        except RoundError as error:
            moved = [str(error)]
        sys.stdout.write(f"{moved}\n")
        sys.stdout.flush()
        if dead and isinstance(moved[0], str):
            os._exit(1)
        time.sleep(600)


if __name__ == "__main__":
    main()
