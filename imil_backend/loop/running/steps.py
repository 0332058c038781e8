"""The steps of the workflows: each calls a function that may run twice."""

from __future__ import annotations

import logging
from typing import Any

from dbos import DBOS
from sqlalchemy import select

from imil_backend.errors import LabelStudioUnreachableError, NotFoundError, RoundError, StoreError
from imil_backend.learning.contract.hosts import Hosts
from imil_backend.loop.answers.reconcile import reconcile
from imil_backend.loop.answers.sync import sync_annotation
from imil_backend.loop.base.backend import Backend, find_project
from imil_backend.loop.base.policy import policy_of
from imil_backend.loop.cleanup.removal import remove_unneeded
from imil_backend.loop.erasure.erasing import finish_erasures
from imil_backend.loop.evaluation.told_clinicians import tell_clinicians
from imil_backend.loop.proposals.renewal import enqueue_due_renewals, renew_proposals
from imil_backend.loop.queues.ended import remove_ended_workflows
from imil_backend.loop.queues.hosts import OtherWorkers, own_address
from imil_backend.loop.queues.workflow_queues import WorkflowQueues
from imil_backend.loop.rounds import lifecycle, push, training
from imil_backend.loop.rounds.report import report_round
from imil_backend.loop.running import counters
from imil_backend.loop.versions.mispredictions import next_mispredictions
from imil_backend.store.tables import Dataset, Project, Round

logger = logging.getLogger(__name__)

_process: dict[str, Any] = {}


def use(backend: Backend, queues: WorkflowQueues) -> None:
    """Set what the workflows of this process work on. Called before DBOS is launched."""
    _process.update(backend=backend, queues=queues)


def current_backend() -> Backend:
    """What the workflows of this process work on."""
    backend: Backend = _process["backend"]
    return backend


def _queues() -> WorkflowQueues:
    queues: WorkflowQueues = _process["queues"]
    return queues


def _worth_retrying(error: BaseException) -> bool:
    return isinstance(error, LabelStudioUnreachableError)


# Label Studio may be down for a while: eight tries, up to ten minutes apart in all.
_PATIENT: dict[str, Any] = {
    "retries_allowed": True,
    "interval_seconds": 5,
    "backoff_rate": 2,
    "max_attempts": 8,
    "should_retry": _worth_retrying,
}
# A hint has one of few places in its queue, and reconciliation sees again what it tells: half a minute.
_OF_A_HINT = {**_PATIENT, "interval_seconds": 2, "max_attempts": 5}

# DBOS stores a step's name with its result, so these names stay as earlier releases recorded them.


@DBOS.step(name="_bring_in_line", **_PATIENT)
def bring_in_line(round_id: int) -> None:
    """Read the clinicians' current answers."""
    training.bring_in_line(current_backend(), round_id)


@DBOS.step(name="_lay_down_job")
def prepare_training(round_id: int) -> None:
    """Write the training job of a round."""
    training.prepare_round_training(current_backend(), round_id)


@DBOS.step(name="_run_job")
def run_training(round_id: int) -> dict[str, Any]:
    """Train, with other hosts where the settings say so."""
    return training.run_round_training(current_backend(), round_id, hosts=_hosts(round_id))


def _hosts(round_id: int) -> Hosts | None:
    backend = current_backend()
    count = backend.settings.training_nodes
    if count == 1:
        return None
    others = OtherWorkers(backend, _queues(), str(DBOS.executor_id), round_id)
    return Hosts(count, own_address(backend), others.invite)


@DBOS.step(name="_join")
def join(round_id: int) -> int | None:
    """Do this host's part of a training."""
    _queues().has_begun(str(DBOS.workflow_id))
    return training.join_round_training(current_backend(), round_id)


@DBOS.step(name="_conclude")
def conclude(round_id: int, result: dict[str, Any]) -> dict[str, Any]:
    """Record the version, and compare it with the champion."""
    return training.conclude(current_backend(), round_id, result)


@DBOS.step(name="_report")
def report(round_id: int) -> str:
    """Write the report, and what pages show of the round."""
    return str(report_round(current_backend(), round_id).text)


@DBOS.step(name="_fail")
def fail(round_id: int, message: str) -> None:
    """Record why a training failed."""
    training.fail(current_backend(), round_id, message)


@DBOS.step(name="_postpone")
def postpone(round_id: int, workflow_id: str, message: str) -> None:
    """Record why a workflow waits for Label Studio."""
    training.postpone(current_backend(), round_id, workflow_id, message)


@DBOS.step(name="_tell_clinicians", **_PATIENT)
def tell(round_id: int) -> None:
    """Tell clinicians what their painting changed."""
    tell_clinicians(current_backend(), round_id)


@DBOS.step(name="_open_next")
def open_next(round_id: int) -> None:
    """Open the next round, if the policy says so and there is a project to push to.

    After a baseline a person decides what is asked, and when: `imil push`.
    """
    backend = current_backend()
    with backend.store.begin() as session:
        closed = session.get_one(Round, round_id)
        dataset = session.get_one(Dataset, closed.dataset_id)
        project = session.scalar(select(Project).where(Project.dataset_id == dataset.id))
        if closed.is_baseline or project is None or not policy_of(dataset).next_round:
            return
        if not next_mispredictions(session, dataset):
            logger.info("Dataset %s: no mispredictions are left to ask about.", dataset.name)
            return
        next_round = lifecycle.open_round(session, dataset)
    lifecycle.ensure_workflow(backend, _queues(), next_round)


@DBOS.step(name="_push", **_PATIENT)
def push_tasks(round_id: int) -> int:
    """Push a round's tasks; their number."""
    count = push.push_round(current_backend(), round_id)
    with current_backend().store.begin() as session:
        dataset_id = session.get_one(Round, round_id).dataset_id
    enqueue_due_renewals(current_backend(), _queues(), dataset_id)
    return count


@DBOS.step(name="_renew_proposals")
def renew(round_id: int, step: int) -> int:
    """Propose masks anew; for how many tasks."""
    return renew_proposals(current_backend(), round_id, step)


@DBOS.step(name="_close_due_rounds")
def close_due_rounds(dataset_id: int) -> None:
    """Close rounds that have enough answers."""
    lifecycle.close_due_rounds(current_backend(), _queues(), dataset_id)


@DBOS.step(name="_sync", **_OF_A_HINT)
def sync(project_number: int, annotation_number: int) -> str:
    """Read one annotation; what it answers."""
    _queues().has_begun(str(DBOS.workflow_id))
    project = _project(project_number)
    if project is None:
        return "not ours"
    answer = sync_annotation(current_backend(), project, annotation_number)
    _go_on(project)
    return answer


@DBOS.step(name="_reconcile", **_OF_A_HINT)
def reconcile_project(project_number: int, full: bool) -> dict[str, int]:
    """Read all annotations of a project; what was found.

    Raises:
        NotFoundError: the project is not one of this backend.
    """
    _queues().has_begun(str(DBOS.workflow_id))
    project = _project(project_number)
    if project is None:
        raise NotFoundError(f"Project {project_number} of Label Studio is not managed by this backend.")
    try:
        with counters.reconciliation_seconds.time():
            found = reconcile(current_backend(), project, full=full)
    except Exception:
        counters.count_failed_reconciliation()
        raise
    counters.count_reconciliation(found)
    _go_on(project)
    return vars(found)


def _go_on(project: Project) -> None:
    """Do what new answers call for: close rounds, propose masks anew."""
    lifecycle.close_due_rounds(current_backend(), _queues(), project.dataset_id)
    enqueue_due_renewals(current_backend(), _queues(), project.dataset_id)


def _project(number: int) -> Project | None:
    backend = current_backend()
    with backend.store.begin() as session:
        return find_project(session, backend.settings.label_studio_url, number)


@DBOS.step(name="_project_numbers")
def project_numbers() -> list[int]:
    """Numbers of all projects; erasures that were interrupted are finished first."""
    _queues().has_begun(str(DBOS.workflow_id))
    backend = current_backend()
    _finish_erasures(backend)
    with backend.store.begin() as session:
        ours = select(Project.label_studio_id).where(Project.instance == backend.settings.label_studio_url)
        return list(session.scalars(ours))


def _finish_erasures(backend: Backend) -> None:
    """Before tasks are read that are to be deleted. What stands in the way is in `imil status`."""
    try:
        finish_erasures(backend)
    except (RoundError, StoreError) as error:
        logger.info("Erasures wait: %s", error)


@DBOS.step(name="_clean_up")
def clean_up() -> dict[str, int]:
    """Remove what is not needed any more; how much."""
    backend = current_backend()
    removed = remove_unneeded(backend, backend.settings.gc_keep) if backend.settings.gc_nightly else []
    return {"workflows": remove_ended_workflows(backend), "bytes": sum(item.bytes for item in removed)}
