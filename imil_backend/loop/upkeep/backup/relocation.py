"""The paths that the databases and files of a data directory hold, when it comes to lie elsewhere."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import Engine, inspect, text

PATHS = (("samples", "path"), ("samples", "clinician_mask"), ("versions", "directory"))
SELECTED_WEIGHTS = Path("weights") / "selected"  # names a file


def relocate_files(files: Path, before: Path, after: Path) -> None:
    """Change the paths in the files of an unpacked data directory."""
    selected = files / SELECTED_WEIGHTS
    if selected.exists():
        name = Path(selected.read_text(encoding="utf-8"))
        if name.is_relative_to(before):
            selected.write_text(str(after / name.relative_to(before)), encoding="utf-8")


def relocate_sqlite(database: Path, before: Path, after: Path) -> None:
    """Change the paths in a SQLite database."""
    with closing(sqlite3.connect(database)) as connection, connection, _without_triggers(connection):
        for table, column in PATHS:
            connection.execute(_update(table, column, ":before", ":after"), _values(before, after))


def relocate_postgres(engine: Engine, before: Path, after: Path) -> None:
    """Change the paths in a PostgreSQL database."""
    with engine.begin() as connection:
        for table, column in PATHS:
            connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
            connection.execute(text(_update(table, column, ":before", ":after")), _values(before, after))
            connection.execute(text(f"ALTER TABLE {table} ENABLE TRIGGER USER"))


def has_tables(engine: Engine) -> bool:
    """Whether a database holds tables of ours."""
    return inspect(engine).has_table("datasets")


def _update(table: str, column: str, before: str, after: str) -> str:
    return (
        f"UPDATE {table} SET {column} = {after} || substr({column}, length({before}) + 1) "  # noqa: S608
        f"WHERE substr({column}, 1, length({before}) + 1) = {before} || '/'"
    )


def _values(before: Path, after: Path) -> dict[str, str]:
    return {"before": str(before), "after": str(after)}


@contextmanager
def _without_triggers(connection: sqlite3.Connection) -> Iterator[None]:
    """A version keeps everything but its place; the triggers that see to it are taken off for that."""
    triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for name, _ in triggers:
        connection.execute(f'DROP TRIGGER "{name}"')
    yield
    for _, statement in triggers:
        connection.execute(statement)
