from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tarfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from loop_fakes import OpenRound, mask_of, region, write_image
from sqlalchemy import select, text
from sqlalchemy.exc import DatabaseError

from imil_backend.config import Settings
from imil_backend.errors import BackupError
from imil_backend.loop.answers.reconcile import reconcile
from imil_backend.loop.base import timestamps
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.queues.engine import SYNC_QUEUE, prepare
from imil_backend.loop.queues.launching import worker_lock
from imil_backend.loop.queues.names import RECONCILE_ALL_WORKFLOW
from imil_backend.loop.queues.workflow_queues import WorkflowQueues
from imil_backend.loop.upkeep.backup.making import back_up
from imil_backend.loop.upkeep.backup.restoring import restore
from imil_backend.store.database import SQLITE_FILE
from imil_backend.store.tables import Annotation, Base, Sample, Version


@pytest.fixture
def answered(open_round: OpenRound) -> OpenRound:
    """A round with two answers, and a workflow that waits in the queue."""
    prepare(open_round.backend)
    for number, task in enumerate(open_round.tasks[:2]):
        open_round.label_studio.annotate(task, region(mask_of(number)))
    reconcile(open_round.backend, open_round.project)
    queues = WorkflowQueues(open_round.backend)
    queues.enqueue(RECONCILE_ALL_WORKFLOW, SYNC_QUEUE, workflow_id="waiting")
    queues.close()
    assert open_round.backend.webhook_secrets  # made now
    return open_round


def settings(directory: Path) -> Settings:
    return Settings(_env_file=None, data_dir=directory)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Backend]:
    backend = Backend(settings(tmp_path / "elsewhere"))
    yield backend
    backend.close()


def rows(backend: Backend) -> dict[str, Any]:
    """All there is in the database, paths aside."""
    found = {}
    with backend.store.begin() as session:
        for table in Base.metadata.sorted_tables:
            kept = [column for column in table.columns if column.name not in {"path", "directory"}]
            selected = session.execute(table.select().with_only_columns(*kept))
            found[table.name] = [tuple(row) for row in selected]
    return found


def files(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for folder in ("masks", "versions", "originals", "secrets")
        for path in (directory / folder).rglob("*")
        if path.is_file()
    }


def test_a_destroyed_original_comes_back_elsewhere(
    answered: OpenRound, elsewhere: Backend, tmp_path: Path
) -> None:
    original = answered.backend.directory
    secrets, before, kept = answered.backend.webhook_secrets, rows(answered.backend), files(original)
    back_up(answered.backend, tmp_path / "backup.tar")
    assert len(timestamps.last(answered.backend, timestamps.BACKUP)) == 1
    answered.backend.close()
    shutil.rmtree(original)

    restore(elsewhere.settings, tmp_path / "backup.tar")
    assert timestamps.last(elsewhere, timestamps.RECONCILIATION) == {}  # they are of the other directory
    assert rows(elsewhere) == before
    assert files(elsewhere.directory) == kept
    assert elsewhere.webhook_secrets == secrets
    with elsewhere.store.begin() as session:
        for sample in session.query(Sample):
            assert Path(sample.path).is_relative_to(elsewhere.directory)
            assert Path(sample.path).exists()
        (version,) = session.query(Version)
        assert version.directory == str(elsewhere.directory / "versions" / version.name)
    queues = WorkflowQueues(elsewhere)
    assert queues.status("waiting") == "ENQUEUED"
    queues.close()


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_a_destroyed_original_comes_back_from_postgresql(answered: OpenRound, tmp_path: Path) -> None:
    original = answered.backend.directory
    before = rows(answered.backend)
    back_up(answered.backend, tmp_path / "backup.tar")
    with answered.backend.store.engine.begin() as connection:
        for statement in ("DROP SCHEMA public CASCADE", "DROP SCHEMA dbos CASCADE", "CREATE SCHEMA public"):
            connection.execute(text(statement))
    shutil.rmtree(original)

    elsewhere = answered.backend.settings.model_copy(update={"data_dir": tmp_path / "elsewhere"})
    restore(elsewhere, tmp_path / "backup.tar")
    assert rows(answered.backend) == before
    with answered.backend.store.begin() as session:
        (version,) = session.query(Version)
        assert version.directory == str(tmp_path / "elsewhere" / "versions" / version.name)
    with pytest.raises(DatabaseError), answered.backend.store.engine.begin() as connection:
        connection.execute(text("UPDATE versions SET directory = 'another'"))
    with pytest.raises(BackupError, match="--replace"):
        restore(elsewhere, tmp_path / "backup.tar")


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_a_database_that_cannot_be_loaded_leaves_everything_as_it_was(
    answered: OpenRound, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = answered.backend.directory
    back_up(answered.backend, tmp_path / "backup.tar")
    write_image(original / "masks" / "since.png")
    before, kept = rows(answered.backend), files(original)
    (tmp_path / "pg_restore").write_text("#!/bin/sh\necho unsupported version >&2; exit 1")
    (tmp_path / "pg_restore").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(BackupError, match="unsupported version"):
        restore(answered.backend.settings, tmp_path / "backup.tar", replace=True)
    assert (rows(answered.backend), files(original)) == (before, kept)


def test_what_must_not_change_cannot_be_changed_after_a_restore_either(
    answered: OpenRound, elsewhere: Backend, tmp_path: Path
) -> None:
    back_up(answered.backend, tmp_path / "backup.tar")
    restore(elsewhere.settings, tmp_path / "backup.tar")
    statements = [
        [row[0] for row in sqlite3_rows(backend.directory / SQLITE_FILE, "SELECT sql FROM sqlite_master")]
        for backend in (answered.backend, elsewhere)
    ]
    assert sorted(filter(None, statements[0])) == sorted(filter(None, statements[1]))
    assert any("TRIGGER" in statement for statement in statements[1] if statement)


def sqlite3_rows(database: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(query).fetchall()


def test_a_backup_that_is_made_while_others_write_is_whole(
    answered: OpenRound, elsewhere: Backend, tmp_path: Path
) -> None:
    ended = threading.Event()

    def write() -> None:
        column = 0
        while not ended.is_set():
            column = (column + 1) % 8
            answered.label_studio.annotate(answered.tasks[2], region(mask_of(column)))
            reconcile(answered.backend, answered.project)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        back_up(answered.backend, tmp_path / "backup.tar")
    finally:
        ended.set()
        writer.join()
    restore(elsewhere.settings, tmp_path / "backup.tar")
    with elsewhere.store.begin() as session:
        painted = select(Annotation.mask_sha256).where(Annotation.mask_sha256.is_not(None))
        masks = set(session.scalars(painted))
    assert masks
    assert masks <= {path.stem for path in (elsewhere.directory / "masks").rglob("*.png")}


def test_a_restore_never_overwrites_unless_it_is_told_to(
    answered: OpenRound, elsewhere: Backend, tmp_path: Path
) -> None:
    back_up(answered.backend, tmp_path / "backup.tar")
    restore(elsewhere.settings, tmp_path / "backup.tar")
    with pytest.raises(BackupError, match="--replace"):
        restore(elsewhere.settings, tmp_path / "backup.tar")
    write_image(elsewhere.directory / "since.png")
    restore(elsewhere.settings, tmp_path / "backup.tar", replace=True)
    assert not (elsewhere.directory / "since.png").exists()
    assert list(elsewhere.directory.glob(".before-restore-*/since.png"))


def test_a_running_worker_is_not_restored_over(answered: OpenRound, tmp_path: Path) -> None:
    back_up(answered.backend, tmp_path / "backup.tar")
    with worker_lock(answered.backend, "worker"), pytest.raises(BackupError, match="worker runs"):
        restore(answered.backend.settings, tmp_path / "backup.tar", replace=True)


@pytest.mark.parametrize("damage", ["cut off", "flipped", "another file"])
def test_a_damaged_backup_changes_nothing(
    answered: OpenRound, elsewhere: Backend, tmp_path: Path, damage: str
) -> None:
    backup = tmp_path / "backup.tar"
    back_up(answered.backend, backup)
    if damage == "cut off":
        backup.write_bytes(backup.read_bytes()[:-20_000])
    elif damage == "flipped":
        with tarfile.open(backup) as tar:
            mask = next(member for member in tar if member.name.endswith(".png"))
        content = bytearray(backup.read_bytes())
        content[mask.offset_data + 20] ^= 0xFF
        backup.write_bytes(content)
    else:
        backup.write_text(json.dumps({"no": "backup"}))
    with pytest.raises(BackupError, match=r"backup\.tar"):
        restore(elsewhere.settings, backup)
    assert not (elsewhere.directory / SQLITE_FILE).exists()
