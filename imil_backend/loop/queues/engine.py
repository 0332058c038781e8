"""DBOS, the engine of the loop: queues, durable workflows, and who may run them.

Only a worker launches DBOS. Every other process enqueues and asks through `WorkflowQueues`.
"""

from __future__ import annotations

import functools
import logging
import re
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any

from dbos import DBOS, DBOSClient, DBOSConfig, DBOSPortableJSONSerializer
from sqlalchemy import ColumnElement, bindparam, exists, literal_column, make_url, select, text, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from imil_backend.batching import BatchedCalls
from imil_backend.errors import RoundError, SettingsError, StoreError
from imil_backend.files import make_private
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.locks import Lock, LockTakenError, any_is_held, locked
from imil_backend.loop.queues.watchdog import Watchdog
from imil_backend.store.database import Store

logger = logging.getLogger(__name__)

APPLICATION = "imil"
# The workflows' own version. A new build must take up the old one's workflows, so this is no hash of the
# code; raise it only when a workflow's steps change their order, and drain the old ones before.
WORKFLOW_VERSION = "1"
DBOS_SQLITE_FILE = "dbos.sqlite"

SERIALIZER = DBOSPortableJSONSerializer()  # JSON; DBOS's default pickles

TRAINING_QUEUE = "training"
LABELLING_QUEUE = "labelling"
SYNC_QUEUE = "sync"
JOINING_QUEUE = "joining"  # with a worker's id, the queue of its parts of trainings on several hosts

_WORKER_ID = re.compile(r"[\w.-]{1,50}", re.ASCII)

# To record an event takes no longer: Label Studio has given up after one second, and the thread is one that
# other events lack. What is lost is found by reconciliation.
RECORD_SECONDS = 10

# On SQLite, where DBOS's tables have no schema.
_WAITING = text(
    "SELECT workflow_uuid FROM workflow_status "
    "WHERE queue_name = :queue_name AND deduplication_id = :deduplication_id"
)

FINISHED = frozenset({"SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"})


def system_database_url(backend: Backend) -> str:
    """Where DBOS keeps its tables: a SQLite file of their own, or the configured PostgreSQL database."""
    url = make_url(backend.store.url)
    if url.get_backend_name() == "sqlite":
        return f"sqlite:///{backend.path(DBOS_SQLITE_FILE)}"
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def prepare(backend: Backend) -> None:
    """Migrate all tables, ours and DBOS's. Fast when they are up to date.

    Raises:
        StoreError: the database cannot be used, or was written by a newer version.
    """
    with locked(backend, "migration"):
        dumps = backend.directory if backend.settings.dump_before_migration else None
        backend.store.migrate(dumps)
        logging.getLogger("dbos").setLevel(logging.WARNING)
        url = system_database_url(backend)
        if url.startswith("sqlite"):
            make_private(backend.path(DBOS_SQLITE_FILE))
        DBOS.migrate(url)
        if url.startswith("sqlite"):
            with sqlite3.connect(backend.path(DBOS_SQLITE_FILE)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")  # kept in the file
            connection.close()


_Workflow = tuple[dict[str, Any], tuple[Any, ...]]  # DBOS's options, arguments


def joining_queue(worker_id: str) -> str:
    """The queue through which a worker gets its part of a training on several hosts."""
    return f"{JOINING_QUEUE}-{worker_id}"


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


@contextmanager
def says_store_error() -> Iterator[None]:
    """Turn what goes wrong with DBOS's tables into a StoreError."""
    try:
        yield
    except SQLAlchemyError as error:
        raise StoreError(
            f"The database of the queues cannot be used ({type(error).__name__}). Is it running, or "
            "is its disk full?"
        ) from error


@contextmanager
def launched(backend: Backend, worker_id: str = "worker") -> Iterator[Watchdog]:
    """Run workflows in this process until the context ends; it waits for those that are under way.

    Workflows that were interrupted under the same `worker_id` go on.

    Raises:
        RoundError: another process runs under this id.
        SettingsError: the id is invalid.
    """
    with worker_lock(backend, worker_id) as lock:
        config: DBOSConfig = {
            "name": APPLICATION,
            "system_database_url": system_database_url(backend),
            "application_version": WORKFLOW_VERSION,
            "executor_id": worker_id,
            "serializer": SERIALIZER,
            "log_level": "WARNING",
        }
        engine = DBOS(config=config)
        joining = joining_queue(worker_id)
        DBOS.listen_queues([TRAINING_QUEUE, LABELLING_QUEUE, SYNC_QUEUE, joining])
        DBOS.launch()
        try:
            # Of trainings on several hosts one is under way: two would wait for each other's workers.
            several = backend.settings.training_nodes > 1
            DBOS.register_queue(
                TRAINING_QUEUE,
                worker_concurrency=1,
                global_concurrency=1 if several else None,
                polling_interval_sec=1.0,
            )
            if several:
                DBOS.register_queue(joining, worker_concurrency=1, polling_interval_sec=1.0)
            DBOS.register_queue(LABELLING_QUEUE, worker_concurrency=1, polling_interval_sec=1.0)
            DBOS.register_queue(SYNC_QUEUE, worker_concurrency=4, polling_interval_sec=0.2)
            _poll_cheaply(engine)
            yield Watchdog(backend, engine, lock, worker_id, WORKFLOW_VERSION)
        finally:
            let_workflows_end(engine)
            DBOS.destroy(workflow_completion_timeout_sec=0)


def _poll_cheaply(engine: DBOS) -> None:
    """Have the queues that are registered dequeue only where something is queued.

    At each poll DBOS reads the queue's settings and builds the statement that dequeues, which takes 2 ms:
    polled so often that an event waits for 0.2 s at most, that was up to 4 % of a core for nothing. To ask
    first takes a thirtieth; the settings do not change while this process runs; and as none of the workflows
    has a time limit, none is looked for that has passed it.
    """
    tables: Any = engine._sys_db
    workflows = tables.tables.workflow_status.c
    queued: ColumnElement[str] = literal_column("'ENQUEUED'")
    pending: ColumnElement[str] = literal_column("'PENDING'")
    # The second condition on the status is there for SQLite, which else does not see that its index serves.
    waits = exists().where(
        workflows.queue_name == bindparam("queue"),
        workflows.status == queued,
        workflows.status.in_([queued, pending]),
    )
    question = select(waits)

    def scopes(queue: str) -> list[None]:
        with tables.engine.connect() as connection:
            return [None] if connection.scalar(question, {"queue": queue}) else []

    tables.dequeue_scopes = scopes
    tables.get_queue = functools.cache(tables.get_queue)
    tables.cancel_timed_out_workflows = lambda _limit: []


def let_workflows_end(engine: DBOS) -> None:
    """Take no workflow out of the queues any more, and wait for those that are under way. Idempotent.

    DBOS would close its tables under them, and every one would end with a traceback.
    """
    for stopped in engine.background_thread_stop_events:
        stopped.set()
    for thread in threading.enumerate():
        if thread.name.startswith("queue-worker-"):
            thread.join()
    engine._executor.shutdown(wait=True)


def take_over(backend: Backend, worker_id: str) -> int:
    """Put a dead worker's unfinished workflows back into their queues, from where this one takes them.

    They go on after their last finished step. To be called while this process runs workflows.

    Returns:
        How many there were.

    Raises:
        RoundError: the other worker is running.
    """
    with worker_lock(backend, worker_id):  # so that it cannot start meanwhile
        return len(DBOS._recover_pending_workflows([worker_id]))


@contextmanager
def worker_lock(backend: Backend, worker_id: str) -> Iterator[Lock]:
    """Hold the lock of a worker id.

    Raises:
        RoundError: another process holds it.
        SettingsError: the id is invalid.
    """
    if not _WORKER_ID.fullmatch(worker_id):
        raise SettingsError(f"{worker_id[:60]!r} is not a worker id: use up to 50 letters, digits, . _ or -.")
    with ExitStack() as stack:
        try:
            lock = stack.enter_context(locked(backend, "worker", worker_id, wait=False))
        except LockTakenError as error:
            raise RoundError(
                f"A worker with the id {worker_id!r} is already running. Stop it first, or choose "
                "another id (--id)."
            ) from error
        yield lock


def worker_is_running(backend: Backend) -> bool:
    """Whether a worker, of whatever id, runs on this backend."""
    return any_is_held(backend, "worker")
