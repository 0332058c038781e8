"""The durable workflows. Thin: each step calls a function that may run twice."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from dbos import DBOS, PortableWorkflowError
from dbos import error as dbos_error
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from imil_backend.errors import ImilError, LabelStudioUnreachableError, NotFoundError, RoundError, StoreError
from imil_backend.json_logs import add_log_fields, log_fields
from imil_backend.learning.contract.hosts import Hosts
from imil_backend.loop.answers.reconcile import reconcile
from imil_backend.loop.answers.sync import sync_annotation
from imil_backend.loop.base.backend import Backend, find_project
from imil_backend.loop.base.policy import policy_of
from imil_backend.loop.cleanup.removal import remove_unneeded
from imil_backend.loop.erasure.erasing import finish_erasures
from imil_backend.loop.evaluation.kept import evaluate_round
from imil_backend.loop.evaluation.told_clinicians import tell_clinicians
from imil_backend.loop.proposals.renewal import enqueue_due_renewals, renew_proposals
from imil_backend.loop.queues import names
from imil_backend.loop.queues.ended import remove_ended_workflows
from imil_backend.loop.queues.hosts import OtherWorkers, own_address
from imil_backend.loop.queues.workflow_queues import WorkflowQueues
from imil_backend.loop.rounds import lifecycle, push, training
from imil_backend.loop.rounds.report import write_report
from imil_backend.loop.running import counters
from imil_backend.loop.running.log_names import (
    Fields,
    dataset_fields,
    named_in_logs,
    project_fields,
    round_fields,
    timed_in_logs,
)
from imil_backend.loop.versions.mispredictions import next_mispredictions
from imil_backend.store.tables import Dataset, Project, Round

logger = logging.getLogger(__name__)

_process: dict[str, Any] = {}


def use(backend: Backend, queues: WorkflowQueues) -> None:
    """Set what the workflows of this process work on. Called before DBOS is launched."""
    _process.update(backend=backend, queues=queues)


def _backend() -> Backend:
    backend: Backend = _process["backend"]
    return backend


def _queues() -> WorkflowQueues:
    queues: WorkflowQueues = _process["queues"]
    return queues


def _message(error: Exception) -> str:
    """The message of an error that a workflow has caught.

    Raises:
        OperationalError: the step was done and could not be recorded. That is no failure: the watchdog has
            the workflow go on from there.
    """
    if isinstance(error, OperationalError):
        raise error
    if isinstance(error, dbos_error.DBOSMaxStepRetriesExceeded) and error.errors:
        return str(error.errors[-1])
    if isinstance(error, (ImilError, PortableWorkflowError)):
        return str(error)
    logger.error("Unexpected error", exc_info=error)
    return f"Unexpected {type(error).__name__}: {error}. See the log."


def _worth_retrying(error: BaseException) -> bool:
    return isinstance(error, LabelStudioUnreachableError)


# Label Studio may be down for a while: eight tries, up to ten minutes apart in all.
_patient = DBOS.step(
    retries_allowed=True, interval_seconds=5, backoff_rate=2, max_attempts=8, should_retry=_worth_retrying
)


# A hint has one of few places in its queue, and reconciliation sees again what it tells: half a minute.
_of_a_hint = DBOS.step(
    retries_allowed=True, interval_seconds=2, backoff_rate=2, max_attempts=5, should_retry=_worth_retrying
)


@_patient
def _bring_in_line(round_id: int) -> None:
    training.bring_in_line(_backend(), round_id)


# DBOS stores a step's name with its result, so these names stay as earlier releases recorded them.
@DBOS.step(name="_lay_down_job")
def _prepare_training(round_id: int) -> None:
    training.prepare_round_training(_backend(), round_id)


@DBOS.step(name="_run_job")
def _run_training(round_id: int) -> dict[str, Any]:
    return training.run_round_training(_backend(), round_id, hosts=_hosts(round_id))


def _hosts(round_id: int) -> Hosts | None:
    backend = _backend()
    count = backend.settings.training_nodes
    if count == 1:
        return None
    others = OtherWorkers(backend, _queues(), str(DBOS.executor_id), round_id)
    return Hosts(count, own_address(backend), others.invite)


@DBOS.step()
def _join(round_id: int) -> int | None:
    _queues().has_begun(str(DBOS.workflow_id))
    return training.join_round_training(_backend(), round_id)


@DBOS.step()
def _conclude(round_id: int, result: dict[str, Any]) -> dict[str, Any]:
    return training.conclude(_backend(), round_id, result)


@DBOS.step()
def _report(round_id: int) -> str:
    text = write_report(_backend(), round_id).text
    evaluate_round(_backend(), round_id)
    return str(text)


@DBOS.step()
def _fail(round_id: int, message: str) -> None:
    training.fail(_backend(), round_id, message)


@DBOS.step()
def _postpone(round_id: int, workflow_id: str, message: str) -> None:
    training.postpone(_backend(), round_id, workflow_id, message)


@_patient
def _tell_clinicians(round_id: int) -> None:
    tell_clinicians(_backend(), round_id)


@DBOS.step()
def _open_next(round_id: int) -> None:
    """Open the next round, if the policy says so and there is a project to push to.

    After a baseline a person decides what is asked, and when: `imil push`.
    """
    backend = _backend()
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


@_patient
def _push(round_id: int) -> int:
    return push.push_round(_backend(), round_id)


@_of_a_hint
def _sync(project_number: int, annotation_number: int) -> str:
    _queues().has_begun(str(DBOS.workflow_id))
    project = _project(project_number)
    if project is None:
        return "not ours"
    answer = sync_annotation(_backend(), project, annotation_number)
    _go_on(project)
    return answer


@_of_a_hint
def _reconcile(project_number: int, full: bool) -> dict[str, int]:
    _queues().has_begun(str(DBOS.workflow_id))
    project = _project(project_number)
    if project is None:
        raise NotFoundError(f"Project {project_number} of Label Studio is not managed by this backend.")
    try:
        with counters.reconciliation_seconds.time():
            found = reconcile(_backend(), project, full=full)
    except Exception:
        counters.count_failed_reconciliation()
        raise
    counters.count_reconciliation(found)
    _go_on(project)
    return vars(found)


def _go_on(project: Project) -> None:
    """Do what new answers call for: close rounds, propose masks anew."""
    lifecycle.close_due_rounds(_backend(), _queues(), project.dataset_id)
    enqueue_due_renewals(_backend(), _queues(), project.dataset_id)


def _project(number: int) -> Project | None:
    backend = _backend()
    with backend.store.begin() as session:
        return find_project(session, backend.settings.label_studio_url, number)


def _of_round(round_id: int, *_: Any) -> Fields:
    return round_fields(_backend(), round_id)


def _of_project(number: int, *_: Any, **__: Any) -> Fields:
    return project_fields(_backend(), number)


def _of_dataset(dataset_id: int) -> Fields:
    return dataset_fields(_backend(), dataset_id)


# A workflow catches whatever a step ends with: a round must say why it failed and must not hang, and a hint
# that failed is seen again by reconciliation. DBOS's own signals (cancelled, taken over) pass: they are no
# Exceptions.


@DBOS.workflow(name=names.TRAIN_WORKFLOW)
@named_in_logs(_of_round)
def train_round(round_id: int) -> dict[str, Any]:
    """Train a round (or a baseline), compare its version with the champion, and open the next round."""
    try:
        _bring_in_line(round_id)
    except Exception as error:  # noqa: BLE001
        return _postponed(round_id, error)
    try:
        _prepare_training(round_id)
        add_log_fields(**_of_round(round_id))  # it has a version now
        with timed_in_logs(f"The training of round {round_id}"):
            result = _run_training(round_id)
        verdict = _conclude(round_id, result)
    except Exception as error:  # noqa: BLE001
        _fail(round_id, _message(error))
        return {"error": _message(error)}
    for afterwards in (_report, _tell_clinicians, _open_next):
        try:
            afterwards(round_id)
        except Exception as error:  # noqa: BLE001
            logger.warning("Round %d is closed, but: %s", round_id, _message(error))
    return verdict


@DBOS.workflow(name=names.JOIN_WORKFLOW)
@named_in_logs(_of_round)
def join_training(round_id: int) -> dict[str, Any]:
    """Do this worker's part of a training. What comes of it is for the worker that trains the round."""
    try:
        return {"status": _join(round_id)}
    except Exception as error:  # noqa: BLE001
        message = _message(error)
        logger.error("This worker takes no part in the training of round %d: %s", round_id, message)
        return {"error": message}


@DBOS.workflow(name=names.PUSH_WORKFLOW)
@named_in_logs(_of_round)
def push_round(round_id: int) -> dict[str, Any]:
    """Push a round's tasks to Label Studio."""
    try:
        return {"pushed": _push(round_id)}
    except Exception as error:  # noqa: BLE001
        return _postponed(round_id, error)


@DBOS.workflow(name=names.PROPOSE_WORKFLOW)
@named_in_logs(_of_round)
def propose_masks(round_id: int, step: int) -> dict[str, Any]:
    """Propose masks for an open round's tasks anew. Where it fails, the next time may not."""
    try:
        return {"proposed": _renew_proposals(round_id, step)}
    except Exception as error:  # noqa: BLE001
        message = _message(error)
        logger.warning("No masks are proposed anew: %s", message)
        return {"error": message}


@DBOS.step()
def _renew_proposals(round_id: int, step: int) -> int:
    return renew_proposals(_backend(), round_id, step)


def _postponed(round_id: int, error: Exception) -> dict[str, Any]:
    _postpone(round_id, str(DBOS.workflow_id), _message(error))
    return {"error": _message(error)}


@DBOS.workflow(name=names.SYNC_WORKFLOW)
@named_in_logs(_of_project)
def sync(project_number: int, annotation_number: int) -> dict[str, Any]:
    """Sync one annotation from Label Studio; then close its round if it is due."""
    try:
        return {"answer": _sync(project_number, annotation_number)}
    except Exception as error:  # noqa: BLE001
        message = _message(error)
        logger.error("Annotation %d was not synced: %s", annotation_number, message)
        return {"error": message}


@DBOS.workflow(name=names.RECONCILE_WORKFLOW)
@named_in_logs(_of_project)
def reconcile_one(project_number: int, full: bool = False) -> dict[str, Any]:
    """Reconcile a whole project with Label Studio."""
    return _reconciled(project_number, full)


def _reconciled(project_number: int, full: bool) -> dict[str, Any]:
    try:
        with timed_in_logs(f"The reconciliation of project {project_number}"):
            return _reconcile(project_number, full)
    except Exception as error:  # noqa: BLE001
        message = _message(error)
        logger.error("Project %d was not reconciled: %s", project_number, message)
        return {"error": message}


@DBOS.workflow(name=names.CLOSE_WORKFLOW)
@named_in_logs(_of_dataset)
def close_due_rounds(dataset_id: int) -> None:
    """Check again a round that had enough answers while its clinician was still working."""
    _close_due_rounds(dataset_id)


@DBOS.step()
def _close_due_rounds(dataset_id: int) -> None:
    lifecycle.close_due_rounds(_backend(), _queues(), dataset_id)


@DBOS.workflow(name=names.RECONCILE_ALL_WORKFLOW)
@named_in_logs()
def reconcile_all(scheduled_at: datetime | str | None = None, context: Any = None) -> None:
    """Reconcile every project; runs at the worker's start and on the schedule."""
    for number in _project_numbers():
        # No workflow of its own: the watchdog would take what no queue has started for stalled.
        with log_fields(**_of_project(number)):
            _reconciled(number, full=False)


@DBOS.workflow(name=names.CLEAN_UP_WORKFLOW)
@named_in_logs()
def clean_up(scheduled_at: datetime | str | None = None, context: Any = None) -> None:
    """Remove what is not needed any more; runs every night."""
    try:
        _clean_up()
    except Exception as error:  # noqa: BLE001
        logger.error("The cleanup did not finish: %s", _message(error))


@DBOS.step()
def _clean_up() -> dict[str, int]:
    backend = _backend()
    removed = remove_unneeded(backend, backend.settings.gc_keep) if backend.settings.gc_nightly else []
    return {"workflows": remove_ended_workflows(backend), "bytes": sum(item.bytes for item in removed)}


@DBOS.step()
def _project_numbers() -> list[int]:
    _queues().has_begun(str(DBOS.workflow_id))
    backend = _backend()
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
