"""The database: its URL, sessions and migrations."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Engine, create_engine, event, update
from sqlalchemy.exc import DatabaseError, DBAPIError, IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from imil_backend.errors import BackupError, NewerDataError, StoreError
from imil_backend.files import make_private, replacing
from imil_backend.store import postgres_dump
from imil_backend.store.tables import Dataset, Project

MIGRATIONS = Path(__file__).with_name("migrations")
SQLITE_FILE = "imil.sqlite"
POSTGRES_COPY = "postgresql.before-"  # and the revision: a dump from before a migration


def database_url(data_dir: Path, configured: str | None) -> str:
    """The SQLAlchemy URL: the configured one, or SQLite in the data directory."""
    if configured is None:
        return f"sqlite:///{(data_dir / SQLITE_FILE).absolute()}"
    # The driver that DBOS brings along; SQLAlchemy's own choice would be another.
    return re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", configured)


class Store:
    """Sessions on one database.

    Args:
        url: SQLAlchemy URL, SQLite or PostgreSQL.
        patience: seconds to wait on SQLite while others write.
    """

    def __init__(self, url: str, patience: float = 30.0) -> None:
        self.url = url
        self.engine = _engine(url, patience)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    @contextmanager
    def begin(self) -> Iterator[Session]:
        """A session in one transaction: committed at the end, rolled back on an error.

        Raises:
            StoreError: the database cannot be reached or written.
        """
        try:
            with self._sessions.begin() as session:
                yield session
        except DatabaseError as error:
            if isinstance(error, IntegrityError):
                raise  # not the database's fault
            raise StoreError(
                f"The database cannot be used ({error.orig}). Is it running, or is its disk full?"
            ) from error

    def migrate(self, dumps: Path | None = None) -> None:
        """Migrate the tables to this package's version; SQLite's file is copied first.

        Args:
            dumps: where PostgreSQL is dumped to first; None: it is not.

        Raises:
            NewerDataError: the data was written by a newer version.
            StoreError: the database cannot be reached or written.
        """
        try:
            self._keep_a_copy(dumps)
            command.upgrade(self._alembic(), "head")
        except CommandError as error:
            raise _newer(error) from error
        except DBAPIError as error:
            raise StoreError(f"The database cannot be migrated: {error.orig}") from error
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"The database cannot be copied before its migration: {error}") from error

    def refuse_unknown(self) -> None:
        """Refuse tables of a revision that this package does not know; nothing is changed.

        Raises:
            NewerDataError: they were written by a newer version.
            StoreError: the database cannot be read.
        """
        known = {script.revision for script in ScriptDirectory.from_config(self._alembic()).walk_revisions()}
        try:
            with self.engine.connect() as connection:
                current = MigrationContext.configure(connection).get_current_heads()
        except DBAPIError as error:
            raise StoreError(f"The database cannot be read: {error.orig}") from error
        if unknown := set(current) - known:
            raise _newer(f"its revision is {', '.join(map(str, unknown))}")

    def check_revision(self) -> None:
        """Check that the database answers, and that its tables are those of this package.

        Raises:
            StoreError: it does not answer, or its tables are of another revision.
        """
        head = ScriptDirectory.from_config(self._alembic()).get_current_head()
        try:
            with self.engine.connect() as connection:
                current = MigrationContext.configure(connection).get_current_revision()
        except DBAPIError as error:
            raise StoreError(f"The database cannot be reached ({error.orig}). Is it running?") from error
        if current != head:
            raise StoreError(
                f"The database is at revision {current}, this package at {head}: restart all processes with "
                "the same release."
            )

    def _keep_a_copy(self, dumps: Path | None) -> None:
        """Copy a database that is about to be changed; one copy of each version stays."""
        with self.engine.connect() as connection:
            before = MigrationContext.configure(connection).get_current_revision()
            scripts = ScriptDirectory.from_config(self._alembic())
            if before in {None, scripts.get_current_head()}:
                return
            scripts.get_revision(before)  # of a newer version: refused before anything is written
            if self.engine.dialect.name == "sqlite":
                copy = Path(f"{self.engine.url.database}.before-{before}")
                temporary = copy.with_name(f".{copy.name}")
                make_private(temporary)
                with closing(sqlite3.connect(temporary)) as target:
                    connection.connection.driver_connection.backup(target)  # type: ignore[union-attr]
                temporary.replace(copy)
        if self.engine.dialect.name != "sqlite" and dumps is not None:
            self._dump(dumps / f"{POSTGRES_COPY}{before}.dump")

    def _dump(self, target: Path) -> None:
        try:
            with replacing(target) as temporary:
                postgres_dump.dump(self.url, temporary)
        except BackupError as error:
            raise StoreError(
                f"The database is to be migrated and cannot be dumped before: {error} Nothing was changed. "
                "If you have a backup of your own, set IMIL_DUMP_BEFORE_MIGRATION=false."
            ) from error

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def _alembic(self) -> Config:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["engine"] = self.engine
        return config


def lock_row(session: Session, row: Project | Dataset) -> None:
    """Hold a project or dataset until the transaction ends: others that want to hold it wait.

    What is read after this is not overtaken, on SQLite (whose transactions begin with the first write) as on
    PostgreSQL.
    """
    table = type(row)
    unchanged = update(table).where(table.id == row.id).values(created_at=table.created_at)
    session.execute(unchanged, execution_options={"synchronize_session": False})


def _newer(why: object) -> NewerDataError:
    return NewerDataError(
        f"The database was written by a newer version of imil-backend ({why}). "
        "Install that version or a later one. Nothing was changed."
    )


def _engine(url: str, patience: float) -> Engine:
    if not url.startswith("sqlite"):
        # A server that has vanished is noticed within half a minute.
        alive = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
        return create_engine(
            url, pool_pre_ping=True, connect_args={"connect_timeout": 10, "tcp_user_timeout": 25_000, **alive}
        )
    engine = create_engine(url, connect_args={"timeout": patience})

    @event.listens_for(engine, "do_connect")
    def _make_private(*_: Any) -> None:
        # Its -wal and -shm get the permissions of the database.
        with suppress(OSError):  # that it cannot be made is told when it is opened
            make_private(Path(str(engine.url.database)))

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _: Any) -> None:
        # WAL lets the web process read while the worker writes.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA foreign_keys=ON")

    return engine
