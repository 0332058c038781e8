"""Label Studio's events. Each is recorded as a durable workflow; nothing else is done here."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from imil_backend.errors import NotFoundError, RoundError
from imil_backend.loop.base.backend import Backend, find_project
from imil_backend.loop.queues.engine import FINISHED, SYNC_QUEUE
from imil_backend.loop.queues.names import RECONCILE_ALL_WORKFLOW, RECONCILE_WORKFLOW, SYNC_WORKFLOW
from imil_backend.loop.queues.workflow_queues import WorkflowQueues
from imil_backend.loop.rounds.lifecycle import close_round, ensure_workflow, latest_round
from imil_backend.store.tables import Project

logger = logging.getLogger(__name__)

ANNOTATION_EVENTS = frozenset(
    {"ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED"}
)
TASK_EVENTS = frozenset({"TASKS_DELETED", "TASKS_CREATED"})  # a task may come with its annotations
MANY = 20  # annotations in one event; more are one reconciliation, for Label Studio waits 1 s
LARGEST_ID = 2**31 - 1


@dataclass(frozen=True)
class Receipt:
    """What happened to an event."""

    accepted: bool
    reason: str = ""
    workflow_ids: list[str] = field(default_factory=list)
    malformed: bool = False  # in a way in which no Label Studio writes


class Events:
    """Records the events of Label Studio's webhooks and of its 'Start training' button."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._queues = WorkflowQueues(backend)
        # A project that was ours stays known: one that is so no longer costs a workflow that finds nothing.
        self._known: set[int] = set()

    def secrets(self) -> tuple[str, ...]:
        """The secrets that a webhook may carry."""
        return self._backend.webhook_secrets

    def record(self, payload: Mapping[str, Any]) -> Receipt:
        """Record an event; committed on return.

        Raises:
            StoreError: it could not be recorded.
        """
        action = payload.get("action")
        if not isinstance(action, str) or action not in ANNOTATION_EVENTS | TASK_EVENTS:
            return Receipt(False, f"Events of the kind {str(action)[:50]!r} are not used.")
        if any(isinstance(value, bool) for value in _id_values(payload)):
            return Receipt(False, "An id of the event is true or false.", malformed=True)
        number = _project_number(payload)
        if not self._is_ours(number):
            return Receipt(False, "The project is not managed by this backend.")
        annotations = list(_annotation_numbers(payload))
        if number is None:
            workflow_ids = [self._hint(RECONCILE_ALL_WORKFLOW)]
        elif action in TASK_EVENTS or not 0 < len(annotations) <= MANY:
            workflow_ids = [self._hint(RECONCILE_WORKFLOW, number, False)]
        else:
            workflow_ids = [self._hint(SYNC_WORKFLOW, number, annotation) for annotation in annotations]
        return Receipt(True, workflow_ids=workflow_ids)

    def _hint(self, workflow: str, *args: Any) -> str:
        """Many events of one annotation are one look at it, unless one comes while it is being looked at."""
        return self._queues.enqueue(workflow, SYNC_QUEUE, *args, unless_waiting=True)

    def _is_ours(self, number: int | None) -> bool:
        """Whether a project is ours; if an event names none, whether any is."""
        if number in self._known:
            return True
        instance = self._backend.settings.label_studio_url
        with self._backend.store.begin() as session:
            if number is None:
                any_of_ours = select(Project.id).where(Project.instance == instance).limit(1)
                return session.scalar(any_of_ours) is not None
            if find_project(session, instance, number) is None:
                return False
        self._known.add(number)
        return True

    def start_training(self, project_number: int) -> str:
        """Close a project's open round for answers and have it trained.

        Returns:
            The id of the training's workflow.

        Raises:
            NotFoundError: the project is not managed by this backend.
            RoundError: there is nothing to train on.
        """
        with self._backend.store.begin() as session:
            project = find_project(session, self._backend.settings.label_studio_url, project_number)
            if project is None:
                raise NotFoundError(
                    f"Label Studio's project {project_number} is not managed by this backend."
                )
            round_ = latest_round(session, project.dataset_id)
            if round_ is None:
                raise RoundError("No round has been opened in this project yet. Open one: `imil push`.")
            round_ = close_round(session, round_)
        workflow_id = ensure_workflow(self._backend, self._queues, round_)
        if workflow_id is None:
            raise RoundError(f"Round {round_.number} is {round_.state}.")
        return workflow_id

    def workflow_status(self, workflow_id: str) -> str:
        """The state of a workflow: "pending", "running", "done", "failed", or "unknown"."""
        status = self._queues.status(workflow_id)
        if status is None:
            return "unknown"
        if status == "SUCCESS":
            result = self._queues.result(workflow_id)
            return "failed" if isinstance(result, Mapping) and "error" in result else "done"
        if status in FINISHED:
            return "failed"
        return "running" if status == "PENDING" else "pending"


def _project_number(payload: Mapping[str, Any]) -> int | None:
    """The project of an event, or None: deletions may come with an empty one, other events with none."""
    project = payload.get("project")
    number = project.get("id") if isinstance(project, Mapping) else None
    for item in _annotations(payload):
        number = number or item.get("project")
    return number if _is_id(number) else None


def _annotation_numbers(payload: Mapping[str, Any]) -> Iterable[int]:
    return (item["id"] for item in _annotations(payload) if _is_id(item.get("id")))


def _id_values(payload: Mapping[str, Any]) -> Iterable[object]:
    """What stands where an event has ids."""
    project = payload.get("project")
    yield project.get("id") if isinstance(project, Mapping) else None
    for item in _annotations(payload):
        yield item.get("id")
        yield item.get("project")


def _is_id(value: object) -> bool:
    return isinstance(value, int) and 0 < value <= LARGEST_ID


def _annotations(payload: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    single = payload.get("annotation")
    several = payload.get("annotations")
    listed = several if isinstance(several, list) else []
    return (item for item in [single, *listed] if isinstance(item, Mapping))
