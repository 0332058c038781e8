"""Resumes stalled workflows, and ends a worker that may have been taken over."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from dbos import DBOS
from sqlalchemy.exc import SQLAlchemyError

from imil_backend.loop.base import timestamps
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.locks import Lock

LOOK_SECONDS = 10.0
LOCK_LOST = 70  # the exit status; a supervisor starts the worker again

logger = logging.getLogger(__name__)


class Watchdog:
    """Looks after a worker.

    Where the database could not be written at the moment a step or an outcome was to be recorded (its disk
    was full, say), DBOS leaves the workflow: it is taken for running and nobody runs it. Seen twice in this
    state, it is put back into its queue and goes on after its last recorded step.

    A worker that has lost its lock, because PostgreSQL was restarted or could not be reached, may have been
    taken over: it ends at once, with its training.

    Each look that finds the database of the queues in order is the worker's heartbeat.
    """

    def __init__(
        self, backend: Backend, engine: DBOS, lock: Lock, worker_id: str, workflow_version: str
    ) -> None:
        self._backend = backend
        self.engine = engine
        self._lock = lock
        self._worker_id = worker_id
        self._workflow_version = workflow_version
        self._seen: set[str] = set()

    @contextmanager
    def on_guard(self) -> Iterator[None]:
        """Look every few seconds until the context ends."""
        ended = threading.Event()

        def watch() -> None:
            self.look()
            while not ended.wait(LOOK_SECONDS):
                self.look()

        thread = threading.Thread(target=watch, name="watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def look(self) -> None:
        """Look once."""
        if not self._lock.is_held():
            logger.critical(
                "Worker %r has lost its connection to the database and with it its lock. It exits; "
                "start it again to resume.",
                self._worker_id,
            )
            os._exit(LOCK_LOST)
        try:
            self._resume_what_lies()
        except SQLAlchemyError as error:
            logger.warning("The database of the queues cannot be used: %s", type(error).__name__)
        else:
            timestamps.touch(self._backend, timestamps.WORKER, self._worker_id)

    def _resume_what_lies(self) -> None:
        taken_for_running = DBOS.list_workflows(
            status="PENDING",
            executor_id=self._worker_id,
            app_version=self._workflow_version,
            load_input=False,
            load_output=False,
        )
        running = set(self.engine._active_workflows_set.activeList())
        lying = {each.workflow_id: each for each in taken_for_running if each.workflow_id not in running}
        for workflow_id in lying.keys() & self._seen:
            logger.warning("Workflow %s stalled; it is resumed.", workflow_id)
            DBOS.resume_workflow(workflow_id, queue_name=lying[workflow_id].queue_name)
        self._seen = set(lying)
