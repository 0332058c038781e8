"""Following a round's training until it has its verdict; running it here if there is no worker."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn

from imil_backend.cli.helpers.console import errors, say
from imil_backend.cli.helpers.showing import phase_in_words, shortcut_test_in_words, show_versions
from imil_backend.errors import RoundError
from imil_backend.loop.base.states import OPEN, PUSHING
from imil_backend.loop.queues.engine import FINISHED
from imil_backend.loop.queues.launching import worker_is_running
from imil_backend.loop.queues.workflow_queues import WorkflowQueues
from imil_backend.loop.rounds.lifecycle import ensure_workflow, latest_round, workflow_id_of
from imil_backend.loop.running.waiting import POLL_SECONDS, follow, verdict_of
from imil_backend.loop.views.status import versions
from imil_backend.store.tables import Dataset, Round

if TYPE_CHECKING:
    from imil_backend.loop.base.backend import Backend


def run_and_follow(backend: Backend, round_id: int) -> None:
    """Have a round trained; show its progress and its verdict.

    Raises:
        TrainingFailedError: the training failed; the message says why.
    """
    try:
        with ExitStack() as stack:
            queues, here = _queues_of_a_worker(backend, stack)
            with backend.store.begin() as session:
                round_ = session.get_one(Round, round_id)
            workflow_id = ensure_workflow(backend, queues, round_)
            if workflow_id is not None:
                _follow(backend, queues, round_id, workflow_id)
            if here and workflow_id is not None:
                _wait_for(queues, workflow_id)
            _show_verdict(backend, round_id)
            if here:
                _follow_the_push(backend, queues, round_)
    except KeyboardInterrupt:
        errors.print("Interrupted. Run the command again to resume from the last epoch.")
        # A training in this process ends with it; one in the worker goes on.
        os._exit(130)


def _queues_of_a_worker(backend: Backend, stack: ExitStack) -> tuple[WorkflowQueues, bool]:
    """The queues, and whether this process runs their workflows until the stack is closed."""
    from imil_backend.loop.running.worker import running

    if not worker_is_running(backend):
        try:
            return stack.enter_context(running(backend)), True
        except RoundError:
            if not worker_is_running(backend):
                raise
            # One has begun in the meantime.
    queues = WorkflowQueues(backend)
    stack.callback(queues.close)
    return queues, False


def _wait_for(queues: WorkflowQueues, workflow_id: str) -> None:
    """Wait for the end of a workflow. A missing one was postponed to the next reconciliation."""
    while queues.status(workflow_id) not in {None, *FINISHED}:
        time.sleep(POLL_SECONDS)


def _follow_the_push(backend: Backend, queues: WorkflowQueues, closed: Round) -> None:
    """Wait for the push of the round after this one, if there is one: nobody else would do it."""
    with backend.store.begin() as session:
        pushed = latest_round(session, closed.dataset_id)
    if pushed is None or pushed.id == closed.id:
        return
    if pushed.state == PUSHING:
        errors.print(f"Pushing round {pushed.number} to Label Studio.")
        _wait_for(queues, workflow_id_of(pushed))
    with backend.store.begin() as session:
        pushed = session.get_one(Round, pushed.id)
    if pushed.state == OPEN:
        say(f"Round {pushed.number} is open.")
    elif pushed.error:
        say(f"[yellow]Round {pushed.number} is not pushed yet:[/] {escape(pushed.error)} Then: `imil push`.")


def _follow(backend: Backend, queues: WorkflowQueues, round_id: int, workflow_id: str) -> None:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[images]}"),
    )
    with Progress(*columns, console=errors) as bars:
        bar = bars.add_task("Waiting for the worker", total=None, images="")
        follow(
            backend, queues, round_id, workflow_id, lambda now: bars.update(bar, **_described(asdict(now)))
        )


def _described(progress: dict[str, Any]) -> dict[str, Any]:
    """What the bar shows of a progress; a phase without images has none of the phase before."""
    total, rate = progress["total"], progress["images_per_second"]
    images = f"{progress['done']}/{total}" if total else ""
    return {
        "description": phase_in_words(progress),
        "completed": progress["done"] if total else progress["phase"] == "done",
        "total": total or 1,
        "images": f"{images} {rate:.0f} images/s" if rate else images,
    }


def _show_verdict(backend: Backend, round_id: int) -> None:
    with backend.store.begin() as session:
        round_ = session.get_one(Round, round_id)
        version, verdict = verdict_of(round_)
        listed = versions(session, session.get_one(Dataset, round_.dataset_id))
    names = {version.name, verdict.get("champion")}
    show_versions([each for each in listed if each["name"] in names], "On the validation split")
    words = {"promote": "Promoted", "reject": "Not promoted", "undecided": "Not promoted: undecided"}
    say(f"{words[verdict['verdict']]}. {escape(verdict['reason'])}")
    for line in shortcut_test_in_words(verdict):
        say(escape(line))
    if verdict["verdict"] == "undecided":
        say(f"You decide: imil promote {verdict['candidate']}, or imil reject {verdict['candidate']}")
    if round_.is_baseline:
        say("Now ask the clinicians about what it got wrong: `imil push`.")
