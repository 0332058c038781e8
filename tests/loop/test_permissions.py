"""What the backend keeps is its owner's alone, whatever the umask."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from sqlalchemy import text
from support.push import png
from typer.testing import CliRunner

from imil_backend.cli import app
from imil_backend.config import Settings
from imil_backend.files import OTHERS, write_atomically
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.importing.fetching import keep_image
from imil_backend.loop.queues.engine import prepare
from imil_backend.loop.upkeep.backup.making import back_up
from imil_backend.loop.upkeep.check_results import State
from imil_backend.loop.upkeep.doctor_machine import permissions

pytestmark = pytest.mark.slow  # databases


@pytest.fixture(autouse=True)
def no_umask() -> None:
    os.umask(0)


def open_to_others(folder: Path) -> list[str]:
    return [str(path) for path in (folder, *folder.rglob("*")) if path.stat().st_mode & OTHERS]


def test_what_a_process_that_sets_no_umask_keeps_is_private(tmp_path: Path) -> None:
    backend = Backend(Settings(_env_file=None, data_dir=tmp_path / "data"))
    prepare(backend)
    image = keep_image(backend, png())
    backend.group_key()
    with backend.store.begin() as session:
        session.execute(text("CREATE TABLE opens_the_wal (id INTEGER)"))
        databases = list(backend.directory.glob("*.sqlite*"))
    assert len(databases) >= 3
    back_up(backend, tmp_path / "backup.tar")
    for path in (*databases, image, tmp_path / "backup.tar", *(backend.directory / "secrets").iterdir()):
        assert stat.filemode(path.stat().st_mode) == "-rw-------", path
    assert stat.filemode(backend.directory.stat().st_mode) == "drwx------"
    backend.close()


def test_what_a_command_keeps_is_private(tmp_path: Path) -> None:
    for command in (
        ["status", "--data-dir", str(tmp_path / "data")],
        ["phantoms", str(tmp_path / "phantoms"), "--count", "40", "--size", "64"],
    ):
        assert CliRunner().invoke(app, command).exit_code == 0
    assert open_to_others(tmp_path / "data") == []
    assert open_to_others(tmp_path / "phantoms") == []


def test_the_doctor_says_what_others_can_read(tmp_path: Path) -> None:
    backend = Backend(Settings(_env_file=None, data_dir=tmp_path / "data"))
    prepare(backend)
    backend.group_key()
    assert permissions(backend) == (State.OK, f"{backend.directory} is its owner's alone.")
    for path in (
        backend.directory,
        backend.directory / "imil.sqlite",
        backend.directory / "secrets/group_key",
    ):
        before = path.stat().st_mode
        path.chmod(0o755)
        state, words = permissions(backend)
        assert state is State.WARNING
        assert f"{path} can be read by others" in words
        assert "chmod -R go-rwx" in words
        path.chmod(before)
    backend.close()


def test_a_file_that_is_replaced_becomes_private(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch(0o666)
    write_atomically(path, b"new")
    assert stat.filemode(path.stat().st_mode) == "-rw-------"
