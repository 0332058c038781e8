"""Makes a database forget what was deleted: its free pages, its log, the rows that are dead."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from imil_backend.errors import StoreError
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.queues.engine import system_database_url
from imil_backend.store.database import Store

_PATIENCE = 30.0  # seconds, for others that read
# ANALYZE leaves the statistics of a table without rows as they were. Those of a column end when it gets a
# type, be it its own.
_FORGET_EMPTY_TABLES = """
    SELECT format(
        'ALTER TABLE %s ALTER %I TYPE %s', pg_class.oid::regclass, attname, format_type(atttypid, atttypmod)
    )
    FROM pg_stats
    JOIN pg_class ON pg_class.oid = format('%I.%I', schemaname, tablename)::regclass AND reltuples = 0
    JOIN pg_attribute USING (attname)
    JOIN pg_type ON pg_type.oid = atttypid
    WHERE attrelid = pg_class.oid AND typcategory = 'S'
"""


def tidy(backend: Backend) -> None:
    """Rewrite the databases without what was deleted from them.

    SQLite's files are written anew (VACUUM), and their logs (WAL) are emptied. PostgreSQL's tables and
    indexes are written anew, and so are its statistics, which hold texts of the tables; its own log keeps
    what was there until it is recycled.

    Raises:
        StoreError: others use a database for too long, or its disk is full.
    """
    if backend.store.engine.dialect.name != "sqlite":
        engine, patience = backend.store.engine, f"SET lock_timeout = {int(_PATIENCE * 1000)}"
        _run(engine, patience, "VACUUM (FULL, ANALYZE)")
        _run(engine, patience, *_run(engine, _FORGET_EMPTY_TABLES), "VACUUM (FULL) pg_statistic")
        return
    _vacuum(backend.store)
    queues = Store(system_database_url(backend), patience=_PATIENCE)
    try:
        _vacuum(queues)
    finally:
        queues.close()


def _vacuum(store: Store) -> None:
    _run(store.engine, "VACUUM")
    (busy,) = _run(store.engine, "PRAGMA wal_checkpoint(TRUNCATE)")
    if busy:
        raise StoreError("The database is being read for long. Finish the erasure later: `imil erase`.")


def _run(engine: Engine, *statements: str) -> list[Any]:
    """The first column that the last statement gives."""
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for statement in statements:
                result = connection.execute(text(statement))
            return list(result.scalars()) if result.returns_rows else []
    except DBAPIError as error:
        raise StoreError(f"The database cannot be tidied ({error.orig}). Try again: `imil erase`.") from error
