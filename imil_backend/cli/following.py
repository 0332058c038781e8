"""Following a round's training until it has its verdict; running it here if there is no worker."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from imil_backend.cli.console import errors, say
from imil_backend.cli.showing import show_versions
from imil_backend.errors import RoundError, TrainingFailedError
from imil_backend.loop import rounds
from imil_backend.loop.engine import FINISHED, Jobs, worker_is_running
from imil_backend.loop.rounds import TRAINING, ensure_job
from imil_backend.loop.status import versions
from imil_backend.loop.training import training_progress
from imil_backend.store.tables import Dataset, Round

if TYPE_CHECKING:
    from imil_backend.loop.backend import Backend

POLL_SECONDS = 0.5


def run_and_follow(backend: Backend, round_id: int) -> None:
    """Have a round trained and show how it goes and what came out.

    Raises:
        TrainingFailedError: the training failed; the message says why.
    """
    with ExitStack() as stack:
        jobs = _jobs_of_a_worker(backend, stack)
        with backend.store.begin() as session:
            round_ = session.get_one(Round, round_id)
        job = ensure_job(backend, jobs, round_)
        try:
            if job is not None:
                _follow(backend, jobs, round_id, job)
        except KeyboardInterrupt:
            errors.print("Interrupted. Give the command again to go on from the last epoch.")
            # A training in this process ends with it; one in the worker goes on.
            os._exit(130)
    _show_verdict(backend, round_id)


def _jobs_of_a_worker(backend: Backend, stack: ExitStack) -> Jobs:
    """Jobs that the running worker does, or this process until the stack is closed."""
    from imil_backend.loop.worker import running

    if not worker_is_running(backend):
        try:
            return stack.enter_context(running(backend))
        except RoundError:
            if not worker_is_running(backend):
                raise
            # One has begun in the meantime.
    jobs = Jobs(backend)
    stack.callback(jobs.close)
    return jobs


def _follow(backend: Backend, jobs: Jobs, round_id: int, job: str) -> None:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
    )
    with Progress(*columns, console=errors) as bars:
        bar = bars.add_task("Waiting for the worker", total=None, rate="")
        while jobs.status(job) not in FINISHED:
            with backend.store.begin() as session:
                current = session.get_one(Round, round_id)
            if current.state != TRAINING and current.version_id is not None:
                return  # what the workflow does after the verdict is not waited for here
            if not worker_is_running(backend):
                raise RoundError(
                    "The worker has ended. Start it again (`imil worker`), or give this command again."
                )
            if progress := training_progress(backend, current):
                bars.update(bar, **_described(progress))
            time.sleep(POLL_SECONDS)


def _described(progress: dict[str, Any]) -> dict[str, Any]:
    epoch = f", epoch {progress['epoch']} of {progress['epochs']}" if progress["epoch"] else ""
    return {
        "description": f"{progress['phase'].capitalize()}{epoch}",
        "completed": progress["done"],
        "total": progress["total"] or None,
        "rate": f"{progress['images_per_second']:.0f} images/s" if progress["images_per_second"] else "",
    }


def _show_verdict(backend: Backend, round_id: int) -> None:
    with backend.store.begin() as session:
        round_ = session.get_one(Round, round_id)
        if round_.error:
            raise TrainingFailedError(f"{round_.error} Give the command again to go on from the last epoch.")
        rounds.check_not_cancelled(round_)
        if round_.verdict is None or round_.version is None:
            raise RoundError(f"Round {round_.number} has no verdict; `imil status` says more.")
        names = {round_.version.name, round_.verdict.get("champion")}
        listed = versions(session, session.get_one(Dataset, round_.dataset_id))
        verdict = round_.verdict
    show_versions([each for each in listed if each["name"] in names], "On the validation split")
    words = {"promote": "Promoted", "reject": "Not promoted", "undecided": "Not promoted: undecided"}
    say(f"{words[verdict['verdict']]}. {escape(verdict['reason'])}")
    if verdict["verdict"] == "undecided":
        say(f"The word is yours: imil promote {verdict['candidate']}")
