"""The durable workflows. Thin: what they do is in their steps.

A workflow catches whatever a step ends with: a round must say why it failed and must not hang, and a hint
that failed is seen again by reconciliation. DBOS's own signals (cancelled, taken over) pass: they are no
Exceptions.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from dbos import DBOS, PortableWorkflowError
from dbos import error as dbos_error
from sqlalchemy.exc import OperationalError

from imil_backend.errors import ImilError
from imil_backend.json_logs import add_log_fields, log_fields
from imil_backend.loop.queues import names
from imil_backend.loop.running import steps
from imil_backend.loop.running.log_names import (
    Fields,
    dataset_fields,
    named_in_logs,
    project_fields,
    round_fields,
    timed_in_logs,
)

logger = logging.getLogger(__name__)


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


def _of_round(round_id: int, *_: Any) -> Fields:
    return round_fields(steps.current_backend(), round_id)


def _of_project(number: int, *_: Any, **__: Any) -> Fields:
    return project_fields(steps.current_backend(), number)


def _of_dataset(dataset_id: int) -> Fields:
    return dataset_fields(steps.current_backend(), dataset_id)


@DBOS.workflow(name=names.TRAIN_WORKFLOW)
@named_in_logs(_of_round)
def train_round(round_id: int) -> dict[str, Any]:
    """Train a round (or a baseline), compare its version with the champion, and open the next round."""
    try:
        steps.bring_in_line(round_id)
    except Exception as error:  # noqa: BLE001
        return _postponed(round_id, error)
    try:
        steps.prepare_training(round_id)
        add_log_fields(**_of_round(round_id))  # it has a version now
        with timed_in_logs(f"The training of round {round_id}"):
            result = steps.run_training(round_id)
        verdict = steps.conclude(round_id, result)
    except Exception as error:  # noqa: BLE001
        steps.fail(round_id, _message(error))
        return {"error": _message(error)}
    for afterwards in (steps.report, steps.tell, steps.open_next):
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
        return {"status": steps.join(round_id)}
    except Exception as error:  # noqa: BLE001
        message = _message(error)
        logger.error("This worker takes no part in the training of round %d: %s", round_id, message)
        return {"error": message}


@DBOS.workflow(name=names.PUSH_WORKFLOW)
@named_in_logs(_of_round)
def push_round(round_id: int) -> dict[str, Any]:
    """Push a round's tasks to Label Studio."""
    try:
        return {"pushed": steps.push_tasks(round_id)}
    except Exception as error:  # noqa: BLE001
        return _postponed(round_id, error)


def _postponed(round_id: int, error: Exception) -> dict[str, Any]:
    steps.postpone(round_id, str(DBOS.workflow_id), _message(error))
    return {"error": _message(error)}


@DBOS.workflow(name=names.PROPOSE_WORKFLOW)
@named_in_logs(_of_round)
def propose_masks(round_id: int, step: int) -> dict[str, Any]:
    """Propose masks for an open round's tasks anew. Where it fails, the next time may not."""
    try:
        return {"proposed": steps.renew(round_id, step)}
    except Exception as error:  # noqa: BLE001
        message = _message(error)
        logger.warning("No masks are proposed anew: %s", message)
        return {"error": message}


@DBOS.workflow(name=names.CLOSE_WORKFLOW)
@named_in_logs(_of_dataset)
def close_due_rounds(dataset_id: int) -> None:
    """Check again a round that had enough answers while its clinician was still working."""
    steps.close_due_rounds(dataset_id)


@DBOS.workflow(name=names.SYNC_WORKFLOW)
@named_in_logs(_of_project)
def sync(project_number: int, annotation_number: int) -> dict[str, Any]:
    """Sync one annotation from Label Studio; then close its round if it is due."""
    try:
        return {"answer": steps.sync(project_number, annotation_number)}
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
            return steps.reconcile_project(project_number, full)
    except Exception as error:  # noqa: BLE001
        message = _message(error)
        logger.error("Project %d was not reconciled: %s", project_number, message)
        return {"error": message}


@DBOS.workflow(name=names.RECONCILE_ALL_WORKFLOW)
@named_in_logs()
def reconcile_all(scheduled_at: datetime | str | None = None, context: Any = None) -> None:
    """Reconcile every project; runs at the worker's start and on the schedule."""
    for number in steps.project_numbers():
        # No workflow of its own: the watchdog would take what no queue has started for stalled.
        with log_fields(**_of_project(number)):
            _reconciled(number, full=False)


@DBOS.workflow(name=names.CLEAN_UP_WORKFLOW)
@named_in_logs()
def clean_up(scheduled_at: datetime | str | None = None, context: Any = None) -> None:
    """Remove what is not needed any more; runs every night."""
    try:
        steps.clean_up()
    except Exception as error:  # noqa: BLE001
        logger.error("The cleanup did not finish: %s", _message(error))
