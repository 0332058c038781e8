"""DBOS, the engine of the loop: its tables, its queues, and what goes wrong with them.

Only a worker launches DBOS (`launching.py`). Every other process enqueues and asks (`workflow_queues.py`).
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from dbos import DBOS, DBOSPortableJSONSerializer
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from imil_backend.errors import StoreError
from imil_backend.files import make_private
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.locks import locked

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

FINISHED = frozenset({"SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"})


def joining_queue(worker_id: str) -> str:
    """The queue through which a worker gets its part of a training on several hosts."""
    return f"{JOINING_QUEUE}-{worker_id}"


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
