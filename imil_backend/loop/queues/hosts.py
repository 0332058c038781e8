"""A training on several hosts: each other worker gets its part through a queue of its own."""

from __future__ import annotations

import logging
import socket
import time

from sqlalchemy import make_url

from imil_backend.errors import SettingsError, StoreError
from imil_backend.loop.base import timestamps
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.locks import which_are_held
from imil_backend.loop.queues.engine import joining_queue
from imil_backend.loop.queues.names import JOIN_WORKFLOW
from imil_backend.loop.queues.workflow_queues import WorkflowQueues

SECONDS_BETWEEN_LOOKS = 2.0
_POSTGRESQL_PORT = 5432

logger = logging.getLogger(__name__)


class OtherWorkers:
    """Asks other workers to take part in a round's training, and notices when one of them is gone."""

    def __init__(self, backend: Backend, queues: WorkflowQueues, worker_id: str, round_id: int) -> None:
        self._backend, self._queues = backend, queues
        self._worker_id, self._round_id = worker_id, round_id
        self._rendezvous = ""
        self._asked: set[str] = set()
        self._looked, self._told = 0.0, False

    def invite(self, rendezvous: str) -> bool:
        """Ask as many others as IMIL_TRAINING_NODES says, and those that are started later.

        Args:
            rendezvous: the id of that which they are to join; of another one than before, all are asked.

        Returns:
            False if a worker that was asked is gone: PostgreSQL has released its lock.
        """
        if rendezvous != self._rendezvous:
            self._rendezvous, self._asked, self._looked = rendezvous, set(), 0.0
        if time.monotonic() - self._looked < SECONDS_BETWEEN_LOOKS:
            return True
        self._looked = time.monotonic()
        try:
            return self._ask()
        except StoreError as error:
            logger.warning("No other workers can be asked to take part in the training: %s", error)
            return True

    def _ask(self) -> bool:
        known = timestamps.last(self._backend, timestamps.WORKER).keys() - {self._worker_id}
        running = which_are_held(self._backend, "worker", known)
        if gone := self._asked - running:
            logger.warning("The training goes on without worker %s.", ", ".join(sorted(gone)))
            return False
        wanted = self._backend.settings.training_nodes - 1 - len(self._asked)
        for worker in sorted(running - self._asked)[:wanted]:
            self._queues.enqueue(JOIN_WORKFLOW, joining_queue(worker), self._round_id, unless_waiting=True)
            self._asked.add(worker)
            logger.info("Worker %s is asked to take part in the training.", worker)
        self._tell_who_lacks()
        return True

    def _tell_who_lacks(self) -> None:
        nodes, found = self._backend.settings.training_nodes, 1 + len(self._asked)
        if found < nodes and not self._told:
            logger.warning("Of %d workers for the training (IMIL_TRAINING_NODES) %d run.", nodes, found)
        self._told = found < nodes


def own_address(backend: Backend) -> str:
    """The address under which other hosts reach this one: as it is set, or the one that faces PostgreSQL.

    Raises:
        SettingsError: it is not set, and cannot be told.
    """
    if given := backend.settings.training_address:
        return given
    url = make_url(backend.store.url)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((url.host or "", url.port or _POSTGRESQL_PORT))  # sends nothing
            return str(probe.getsockname()[0])
    except OSError as error:
        raise SettingsError(
            "The address of this host for a training on several cannot be told from that of PostgreSQL "
            f"({error.strerror}). Set IMIL_TRAINING_ADDRESS."
        ) from error
