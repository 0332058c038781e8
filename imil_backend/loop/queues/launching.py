"""A worker's part of DBOS: it runs what is in the queues, under a stable id, and can be taken over from."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from dbos import DBOS, DBOSConfig
from sqlalchemy import ColumnElement, bindparam, exists, literal_column, select

from imil_backend.errors import RoundError, SettingsError
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.locks import Lock, LockTakenError, any_is_held, locked
from imil_backend.loop.queues.engine import (
    APPLICATION,
    LABELLING_QUEUE,
    SERIALIZER,
    SYNC_QUEUE,
    TRAINING_QUEUE,
    WORKFLOW_VERSION,
    joining_queue,
    system_database_url,
)
from imil_backend.loop.queues.watchdog import Watchdog

_WORKER_ID = re.compile(r"[\w.-]{1,50}", re.ASCII)


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
            # Each poll takes as many events as are not under way: with 4 it was 20 a second, on any machine.
            DBOS.register_queue(SYNC_QUEUE, worker_concurrency=8, polling_interval_sec=0.2)
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
