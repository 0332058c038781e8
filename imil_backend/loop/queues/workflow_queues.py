"""Enqueueing workflows, and asking what came of them, in any process."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from dbos import DBOSClient
from sqlalchemy import make_url, text, update
from sqlalchemy.orm import Session

from imil_backend.batching import BatchedCalls
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.queues.engine import (
    APPLICATION,
    SERIALIZER,
    WORKFLOW_VERSION,
    says_store_error,
    system_database_url,
)
from imil_backend.store.database import Store

# To record an event takes no longer: Label Studio has given up after one second, and the thread is one that
# other events lack. What is lost is found by reconciliation.
RECORD_SECONDS = 10

# On SQLite, where DBOS's tables have no schema.
_WAITING = text(
    "SELECT workflow_uuid FROM workflow_status "
    "WHERE queue_name = :queue_name AND deduplication_id = :deduplication_id"
)

_Workflow = tuple[dict[str, Any], tuple[Any, ...]]  # DBOS's options, arguments


class WorkflowQueues:
    """Enqueues workflows and gives their states and results."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        # SQLite takes one write at a time, and lets others sleep for up to 0.1 s between two tries: what
        # several threads enqueue at once is one transaction there. PostgreSQL is quicker side by side.
        one_writer = system_database_url(backend).startswith("sqlite")
        self._record = BatchedCalls(self._record_together) if one_writer else self._record_each

    @cached_property
    def _client(self) -> DBOSClient:
        return DBOSClient(
            system_database_url=_impatient(system_database_url(self._backend)),
            application_name=APPLICATION,
            serializer=SERIALIZER,
            retry_connection_errors=False,
        )

    @cached_property
    def _queue_store(self) -> Store:
        return Store(system_database_url(self._backend), patience=RECORD_SECONDS)

    def enqueue(
        self,
        workflow: str,
        queue: str,
        *args: Any,
        workflow_id: str | None = None,
        delay: float = 0.0,
        unless_waiting: bool = False,
    ) -> str:
        """Record a workflow to be run; committed on return. Idempotent for a given `workflow_id`.

        Args:
            workflow: the workflow's name.
            queue: one of the queues of this module.
            args: ids and other JSON values, never objects.
            workflow_id: the workflow's id; generated if absent.
            delay: seconds to wait before it is run.
            unless_waiting: where one with the same name and arguments waits in the queue, or has not yet
                called `has_begun`, that one will do.

        Returns:
            The workflow's id.

        Raises:
            StoreError: it could not be recorded.
        """
        options: dict[str, Any] = {
            "workflow_name": workflow,
            "queue_name": queue,
            "app_version": WORKFLOW_VERSION,
        }
        if workflow_id is not None:
            options["workflow_id"] = workflow_id
        if delay:
            options["delay_seconds"] = delay
        if unless_waiting:
            options["deduplication_id"] = ":".join([workflow, *map(str, args)])
        [recorded] = self._record([(options, args)])
        return recorded

    def has_begun(self, workflow_id: str) -> None:
        """Let what is enqueued from now on `unless_waiting` be a workflow of its own.

        A workflow calls this before it reads what it was enqueued for.
        """
        table = self._client._sys_db.tables.workflow_status
        release = update(table).where(table.c.workflow_uuid == workflow_id).values(deduplication_id=None)
        with says_store_error(), self._client._sys_db.engine.begin() as connection:
            connection.execute(release)

    def _record_each(self, workflows: Sequence[_Workflow]) -> Sequence[str]:
        with says_store_error():
            return [self._recorded(options, args) for options, args in workflows]

    def _recorded(self, options: dict[str, Any], args: tuple[Any, ...]) -> str:
        policy = {"duplication_policy": "return-existing"} if "deduplication_id" in options else {}
        return str(self._client.enqueue({**options, **policy}, *args).get_workflow_id())  # type: ignore[typeddict-item]

    def _record_together(self, workflows: Sequence[_Workflow]) -> Sequence[str]:
        with says_store_error(), self._queue_store.begin() as session:
            # Or another process enqueues between the look and the writing.
            session.execute(text("BEGIN IMMEDIATE"))
            return [
                self._waiting(session, options)
                or self._client.enqueue_in_transaction(session, options, *args).get_workflow_id()  # type: ignore[arg-type]
                for options, args in workflows
            ]

    def _waiting(self, session: Session, options: dict[str, Any]) -> str | None:
        """The workflow that will do in place of a new one."""
        if "deduplication_id" not in options:
            return None
        names = ("queue_name", "deduplication_id")
        found = session.scalar(_WAITING, {name: options[name] for name in names})
        return None if found is None else str(found)

    def status(self, workflow_id: str) -> str | None:
        """DBOS's name for the state of a workflow, or None if there is none of this id."""
        with says_store_error():
            found = self._client.list_workflows(
                workflow_ids=[workflow_id], load_input=False, load_output=False
            )
        return found[0].status if found else None

    def result(self, workflow_id: str) -> Any:
        """What a workflow returned, or None."""
        with says_store_error():
            found = self._client.list_workflows(workflow_ids=[workflow_id], load_input=False)
        return found[0].output if found else None

    def close(self) -> None:
        """Close the connection, if there is one."""
        if "_client" in self.__dict__:
            self._client.destroy()
        if "_queue_store" in self.__dict__:
            self._queue_store.close()


def _impatient(url: str) -> str:
    """The URL of a PostgreSQL database, with limits to how long its answers are waited for."""
    if url.startswith("sqlite"):
        return url
    limits = {
        "connect_timeout": str(RECORD_SECONDS),
        "tcp_user_timeout": str(1000 * RECORD_SECONDS),
        "options": f"-c statement_timeout={1000 * RECORD_SECONDS}",
    }
    given = make_url(url)
    return given.update_query_dict({**limits, **given.query}).render_as_string(hide_password=False)
