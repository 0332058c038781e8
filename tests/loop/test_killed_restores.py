"""A backup or a restore that is killed anywhere: the next start finishes or removes it, and says so."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from support import backups
from support.killing import REPLACING, WRITING, killed_at

from imil_backend.config import Settings
from imil_backend.errors import BackupError, StoreError
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.unfinished import BACKING_UP, RESTORING, commit, working_folder
from imil_backend.loop.queues.engine import prepare
from imil_backend.loop.upkeep.backup.making import back_up
from imil_backend.loop.upkeep.backup.restoring import restore

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks")

CHANGES = WRITING | REPLACING


def files(directory: Path) -> dict[str, bytes]:
    """What is in a data directory and seen; nothing that is under way."""
    found = [path for path in directory.rglob("*") if path.is_file()]
    names = {str(path.relative_to(directory)): path for path in found}
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith((".", "locks"))}


def folders(directory: Path, kind: str) -> list[Path]:
    return list(directory.glob(f".{kind}-*"))


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    (tmp_path / "made").mkdir()
    members = [backups.regular(*each) for each in backups.databases(tmp_path / "made").items()]
    members += [backups.regular(f"files/{name}", b"new") for name in ("masks/a.png", "secrets/webhook")]
    return backups.write(tmp_path / "backup.tar", members)


def installed(tmp_path: Path) -> Settings:
    """A data directory with something in it."""
    settings = Settings(_env_file=None, data_dir=tmp_path / "data")
    databases = ("imil.sqlite", "imil.sqlite-wal", "dbos.sqlite")
    for name in (*databases, "masks/a.png", "secrets/webhook"):
        (settings.data_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (settings.data_dir / name).write_bytes(b"old")
    return settings


@pytest.mark.slow
def test_a_restore_that_is_killed_anywhere_is_finished_or_undone(
    tmp_path: Path, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sync", lambda: None)  # nothing here loses its power
    reference = Settings(_env_file=None, data_dir=tmp_path / "reference")
    restore(reference, backup)
    after = set(files(reference.data_dir))
    outcomes = []
    for number in range(1000):
        place = tmp_path / str(number)
        settings = installed(place)
        before = files(settings.data_dir)
        died = killed_at(number, lambda settings=settings: restore(settings, backup, replace=True), CHANGES)
        for later in range(number % 4, 1000, 4):  # and the next starts are killed as well
            if not killed_at(later, lambda settings=settings: Backend(settings).close(), CHANGES):
                break
        Backend(settings).close()
        now = files(settings.data_dir)
        is_new = set(now) == after and now["secrets/webhook"] == b"new"
        assert is_new or now == before, number
        if is_new:
            (aside,) = folders(settings.data_dir, "before-restore")
            assert {**files(aside)} == before, number
        assert not folders(settings.data_dir, RESTORING)
        outcomes.append(is_new)
        if not died:
            break
    assert outcomes == sorted(outcomes)  # from undone to finished, at one point
    assert outcomes.count(False) > 10
    assert outcomes.count(True) > 10


@pytest.mark.parametrize(("changes", "said"), [(20, "before it changed anything"), (45, "has been finished")])
def test_the_next_start_says_what_happened(
    tmp_path: Path, backup: Path, caplog: pytest.LogCaptureFixture, changes: int, said: str
) -> None:
    settings = installed(tmp_path)
    assert killed_at(changes, lambda: restore(settings, backup, replace=True), CHANGES)
    Backend(settings).close()
    assert said in caplog.text
    caplog.clear()
    Backend(settings).close()
    assert not caplog.text


def test_a_restore_that_was_killed_while_postgresql_loaded_has_to_be_run_again(tmp_path: Path) -> None:
    settings = installed(tmp_path)
    with pytest.raises(KeyboardInterrupt), working_folder(settings.data_dir, RESTORING) as folder:
        commit(folder, {"source": "/somewhere/b.tar", "step": "database", "aside": [], "names": []})
        raise KeyboardInterrupt
    with pytest.raises(StoreError, match=r"imil restore --replace /somewhere/b\.tar"):
        Backend(settings)
    Backend(settings, restores_now=True).close()
    assert folder.exists()


def test_a_backup_that_is_killed_anywhere_leaves_nothing(backend: Backend, tmp_path: Path) -> None:
    prepare(backend)
    (backend.directory / "masks").mkdir()
    (backend.directory / "masks" / "a.png").write_bytes(b"a")
    before = files(backend.directory)
    backend.close()
    made = tmp_path / "made"
    made.mkdir()
    for number in range(1000):
        died = killed_at(number, lambda: back_up(backend, made / "backup.tar"), CHANGES)
        Backend(backend.settings).close()
        assert not folders(backend.directory, BACKING_UP)
        assert set(files(backend.directory)) - set(before) <= {
            "dbos.sqlite-shm",
            "dbos.sqlite-wal",
            "timestamps/backup",  # of one that was whole when it was killed
        }
        assert {path.name for path in made.iterdir()} <= {"backup.tar"}, number
        if not died:
            break
    assert number > 5
    assert (made / "backup.tar").exists()


def test_a_restore_that_fails_leaves_no_copy(tmp_path: Path, backup: Path) -> None:
    settings = installed(tmp_path)
    before = files(settings.data_dir)
    backup.write_bytes(backup.read_bytes().replace(b"new", b"bad", 1))
    with pytest.raises(BackupError, match="damaged"):
        restore(settings, backup, replace=True)
    assert files(settings.data_dir) == before
    assert not folders(settings.data_dir, RESTORING)


def test_nothing_opens_a_directory_that_is_being_restored(
    tmp_path: Path, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imil_backend.loop.base.unfinished._PATIENCE", 0.1)
    settings = installed(tmp_path)
    with working_folder(settings.data_dir, RESTORING), pytest.raises(StoreError, match="is being restored"):
        Backend(settings)
    with working_folder(settings.data_dir, BACKING_UP) as folder:
        Backend(settings).close()
        assert folder.exists()
