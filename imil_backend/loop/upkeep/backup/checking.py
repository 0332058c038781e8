"""SQLite's databases of a backup, looked at before they take the place of others."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from imil_backend.errors import BackupError
from imil_backend.loop.upkeep.backup.contents import SQLITE_FILES
from imil_backend.store.database import SQLITE_FILE, Store


def check_databases(folder: Path, source: Path) -> None:
    """Check that the databases are sound, and that this package knows the tables of ours.

    Raises:
        BackupError: one is damaged, or is no database.
        NewerDataError: the tables are of a revision that this package does not know.
    """
    for name in SQLITE_FILES:
        if problem := _problem(folder / name):
            raise BackupError(
                f"{name} in {source} is damaged ({problem}); nothing was restored. Use another backup."
            )
    store = Store(f"sqlite:///{folder / SQLITE_FILE}")
    try:
        store.refuse_unknown()
    finally:
        store.close()


def _problem(database: Path) -> str | None:
    """What is wrong with a database, or None."""
    try:
        with closing(sqlite3.connect(database)) as connection:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        return str(error)
    return None if found == "ok" else str(found)
