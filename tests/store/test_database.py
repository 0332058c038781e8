from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import event, select, text
from sqlalchemy.exc import IntegrityError

from imil_backend.errors import NewerDataError, StoreError
from imil_backend.store.database import Store, database_url, lock_row
from imil_backend.store.tables import Base, Dataset, Project

pytestmark = pytest.mark.slow  # databases


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(database_url(tmp_path, None))
    store.migrate()
    yield store
    store.close()


def test_a_new_connection_leaves_the_locks_of_others_alone(store: Store) -> None:
    """Without them another process takes the database for unused, and removes the log that is in use."""
    with store.engine.connect() as connection:
        connection.execute(select(Dataset)).all()
        another = Store(store.url)
        another.engine.connect().close()
        look = (
            "import sqlite3, sys\n"
            "database = sqlite3.connect(sys.argv[1])\n"
            "database.execute('SELECT * FROM datasets')\n"
            "database.close()\n"
        )
        subprocess.run([sys.executable, "-c", look, str(store.engine.url.database)], check=True)
        another.close()
        assert Path(f"{store.engine.url.database}-wal").exists()


def add_dataset(store: Store) -> Project:
    with store.begin() as session:
        dataset = Dataset(name="films", classes=["a", "b"])
        session.add(dataset)
        session.flush()
        session.add(Project(dataset_id=dataset.id, instance="http://a.test", label_studio_id=1))
    with store.begin() as session:
        return session.scalars(select(Project)).one()


def test_the_migrations_make_the_tables_of_the_code(store: Store) -> None:
    with store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    command.check(store._alembic())
    store.migrate()  # again: nothing to do


def test_a_database_of_the_first_version_is_kept_beside_and_brought_up_to_date(tmp_path: Path) -> None:
    store = Store(database_url(tmp_path, None))
    command.upgrade(store._alembic(), "0001")
    with store.engine.begin() as connection:
        values = "(1, 'films', '[]', '{}', '{}', '2026-01-01 00:00:00')"
        connection.execute(
            text(f"INSERT INTO datasets (id, name, classes, recipe, policy, created_at) VALUES {values}")
        )
    for _ in range(2):
        store.migrate()
    with store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        assert connection.scalar(text("SELECT name FROM datasets")) == "films"
    with closing(sqlite3.connect(tmp_path / "imil.sqlite.before-0001")) as kept:
        assert kept.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]
        assert kept.execute("SELECT name FROM datasets").fetchall() == [("films",)]
    assert [path.name for path in tmp_path.glob("*before*")] == ["imil.sqlite.before-0001"]
    store.close()


def test_data_of_a_newer_version_is_refused_and_left_alone(store: Store) -> None:
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(NewerDataError, match="newer version"):
        store.migrate()
    with store.engine.connect() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "9999"


def test_a_database_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}")  # a directory
    with pytest.raises(StoreError):
        store.migrate()
    with pytest.raises(StoreError, match="cannot be used"), store.begin() as session:
        session.scalars(select(Dataset)).all()


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "imil.sqlite").write_bytes(b"no database" * 100)
    store = Store(database_url(tmp_path, None))
    with pytest.raises(StoreError, match="not a database"):
        store.migrate()


def test_a_database_that_another_process_holds_is_told(store: Store) -> None:
    @event.listens_for(store.engine, "connect")
    def _hurry(connection: object, _: object) -> None:
        connection.execute("PRAGMA busy_timeout=10")  # type: ignore[attr-defined]

    store.engine.dispose()
    with store.engine.connect() as other:
        other.exec_driver_sql("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"), store.begin() as session:
            session.add(Dataset(name="films", classes=[]))


def test_an_error_takes_back_the_whole_transaction(store: Store) -> None:
    add_dataset(store)
    with pytest.raises(IntegrityError), store.begin() as session:
        session.add(Dataset(name="others", classes=[]))
        session.flush()
        session.add(Dataset(name="films", classes=[]))
    with store.begin() as session:
        assert [dataset.name for dataset in session.scalars(select(Dataset))] == ["films"]


def test_times_come_back_in_utc(store: Store) -> None:
    east = datetime(2026, 1, 1, 3, tzinfo=timezone(timedelta(hours=3)))
    with store.begin() as session:
        session.add(Dataset(name="films", classes=[], created_at=east))
    with store.begin() as session:
        found = session.scalars(select(Dataset)).one().created_at
    assert (found, found.utcoffset()) == (east, timedelta(0))


def test_foreign_keys_hold(store: Store) -> None:
    with pytest.raises(IntegrityError), store.begin() as session:
        session.add(Project(dataset_id=7, instance="", label_studio_id=1))


def test_whoever_holds_a_project_is_not_overtaken(store: Store) -> None:
    project = add_dataset(store)

    def read_and_add_one() -> None:
        with store.begin() as session:
            lock_row(session, project)
            dataset = session.scalars(select(Dataset)).one()
            dataset.policy = {"count": dataset.policy.get("count", 0) + 1}

    threads = [threading.Thread(target=read_and_add_one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.begin() as session:
        assert session.scalars(select(Dataset)).one().policy == {"count": 8}


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_postgresql_is_reached_through_the_installed_driver(tmp_path: Path, scheme: str) -> None:
    url = database_url(tmp_path, f"{scheme}://me:secret@db.example.org/imil")
    assert url == "postgresql+psycopg://me:secret@db.example.org/imil"
