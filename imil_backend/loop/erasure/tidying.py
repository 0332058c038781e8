"""Makes a database forget what was deleted: its free pages, its log, the rows that are dead."""

from __future__ import annotations

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from imil_backend.errors import StoreError
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.queues.engine import system_database_url
from imil_backend.store.database import Store

_PATIENCE = 30.0  # seconds, for others that read


def tidy(backend: Backend) -> None:
    """Rewrite the databases without what was deleted from them.

    SQLite's files are written anew (VACUUM), and their logs (WAL) are emptied. PostgreSQL's tables and
    indexes are written anew; its own log keeps what was there until it is recycled.

    Raises:
        StoreError: others use a database for too long, or its disk is full.
    """
    if backend.store.engine.dialect.name != "sqlite":
        _run(backend.store.engine, f"SET lock_timeout = {int(_PATIENCE * 1000)}", "VACUUM (FULL)")
        return
    _vacuum(backend.store)
    queues = Store(system_database_url(backend), patience=_PATIENCE)
    try:
        _vacuum(queues)
    finally:
        queues.close()


def _vacuum(store: Store) -> None:
    _run(store.engine, "VACUUM")
    busy = _run(store.engine, "PRAGMA wal_checkpoint(TRUNCATE)")
    if busy:
        raise StoreError("The database is being read for long. Finish the erasure later: `imil erase`.")


def _run(engine: Engine, *statements: str) -> int:
    """The first number that the last statement gives."""
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for statement in statements:
                result = connection.execute(text(statement))
                row = result.first() if result.returns_rows else None
            return int(row[0]) if row else 0
    except DBAPIError as error:
        raise StoreError(f"The database cannot be tidied ({error.orig}). Try again: `imil erase`.") from error
