"""Waiting for a round's training: in the worker that runs, or in this process where none does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from imil_backend.errors import ImilError, RoundError, TrainingFailedError
from imil_backend.learning.contract.training_job import Progress, read_progress
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.states import TRAINING
from imil_backend.loop.queues.engine import FINISHED
from imil_backend.loop.queues.launching import worker_is_running
from imil_backend.loop.queues.workflow_queues import WorkflowQueues
from imil_backend.loop.rounds import training
from imil_backend.loop.rounds.lifecycle import check_not_cancelled, ensure_workflow
from imil_backend.loop.rounds.report import report_round
from imil_backend.loop.versions.training_jobs import directory_of
from imil_backend.store.tables import Round, Version

POLL_SECONDS = 0.5

OnProgress = Callable[[Progress], None]


def train_and_wait(
    backend: Backend, round_id: int, on_progress: OnProgress | None = None
) -> tuple[Version, dict[str, Any]]:
    """Have a round trained and wait for its verdict.

    Without a worker it is trained here, step by step and without DBOS: an interrupt ends the training, and
    the same call resumes from its last epoch. The next round is then not opened.

    Raises:
        TrainingFailedError: a worker's training failed; the message says why.
        ImilError: the training failed here.
        RoundError: it was cancelled, or the worker has ended.
    """
    if worker_is_running(backend):
        _wait_for_worker(backend, round_id, on_progress)
    else:
        _train_here(backend, round_id, on_progress)
    with backend.store.begin() as session:
        return verdict_of(session.get_one(Round, round_id))


def verdict_of(round_: Round) -> tuple[Version, dict[str, Any]]:
    """The version that a round has brought, and what came of its comparison.

    Raises:
        TrainingFailedError: the training failed; the message says why.
        RoundError: it was cancelled, or is not trained yet.
    """
    if round_.error:
        raise TrainingFailedError(f"{round_.error} Run the command again to resume from the last epoch.")
    check_not_cancelled(round_)
    if round_.verdict is None or round_.version is None:
        raise RoundError(f"Round {round_.number} has no verdict; see `imil status`.")
    return round_.version, round_.verdict


def follow(
    backend: Backend, queues: WorkflowQueues, round_id: int, workflow_id: str, on_progress: OnProgress
) -> None:
    """Wait for a round's version, or for the end of its workflow.

    Raises:
        RoundError: no worker runs any more.
    """
    while queues.status(workflow_id) not in FINISHED:
        with backend.store.begin() as session:
            current = session.get_one(Round, round_id)
        if current.state != TRAINING and current.version_id is not None:
            return  # the worker does by itself what comes after the verdict
        if not worker_is_running(backend):
            raise RoundError(
                "The worker has ended. Start it again (`imil worker`), or run this command again."
            )
        if current.version_name and (progress := read_progress(directory_of(backend, current.version_name))):
            on_progress(progress)
        time.sleep(POLL_SECONDS)


def _wait_for_worker(backend: Backend, round_id: int, on_progress: OnProgress | None) -> None:
    queues = WorkflowQueues(backend)
    try:
        with backend.store.begin() as session:
            round_ = session.get_one(Round, round_id)
        workflow_id = ensure_workflow(backend, queues, round_)
        if workflow_id is not None:
            follow(backend, queues, round_id, workflow_id, on_progress or (lambda _progress: None))
    finally:
        queues.close()


def _train_here(backend: Backend, round_id: int, on_progress: OnProgress | None) -> None:
    """What the workflow does, in its order; a worker that starts meanwhile finds each step done."""
    training.bring_in_line(backend, round_id)
    try:
        training.prepare_round_training(backend, round_id)
        training.conclude(backend, round_id, training.run_round_training(backend, round_id, on_progress))
    except ImilError as error:
        training.fail(backend, round_id, str(error))
        raise
    report_round(backend, round_id)
