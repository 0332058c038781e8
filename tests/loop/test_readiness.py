from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from loop_fakes import FakeLabelStudio, OpenRound, on_both_databases
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from imil_backend.errors import LabelStudioUnreachableError
from imil_backend.loop.answers.reconcile import reconcile
from imil_backend.loop.base import timestamps
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.monitoring import readiness
from imil_backend.loop.monitoring.readiness import Readiness, check_readiness
from imil_backend.loop.queues.launching import worker_lock
from imil_backend.loop.queues.watchdog import Watchdog


@on_both_databases
def test_without_a_worker_it_is_degraded(backend: Backend) -> None:
    report = check_readiness(backend)
    assert report.readiness is Readiness.DEGRADED
    assert "imil worker" in report.problems["worker"]
    with worker_lock(backend, "gpu-1"):
        assert check_readiness(backend).readiness is Readiness.READY


@on_both_databases
def test_at_another_revision_it_is_not_ready(backend: Backend) -> None:
    with backend.store.begin() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    report = check_readiness(backend)
    assert (report.readiness, list(report.problems)) == (Readiness.NOT_READY, ["database"])


def test_a_full_disk_and_a_directory_that_cannot_be_written_are_not_ready(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(dir: Path) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(readiness, "TemporaryFile", refuse)
    monkeypatch.setattr(readiness, "FULL_BYTES", 2**80)
    report = check_readiness(backend)
    assert (report.readiness, list(report.problems)) == (Readiness.NOT_READY, ["directory", "disk"])
    assert str(backend.directory) not in str(report.problems)
    assert str(backend.directory) in caplog.text


@on_both_databases
def test_a_directory_that_is_gone_is_not_ready_and_stays_gone(backend: Backend) -> None:
    shutil.rmtree(backend.directory)
    timestamps.touch(backend, timestamps.WORKER, "gpu-1")
    report = check_readiness(backend)
    assert report.readiness is Readiness.NOT_READY
    assert "No such file" in report.problems["directory"]
    assert "No such file" in report.problems["disk"]
    assert not backend.directory.exists()


def test_the_heartbeat_stops_when_the_queues_cannot_be_read(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    with worker_lock(backend, "gpu-1") as lock:
        watchdog = Watchdog(backend, None, lock, "gpu-1", "1")  # type: ignore[arg-type]
        monkeypatch.setattr(watchdog, "_resume_what_lies", lambda: None)
        watchdog.look()
        beat = backend.directory / "timestamps" / "worker-gpu-1"
        os.utime(beat, (1000, 1000))
        assert timestamps.last(backend, timestamps.WORKER) == {"gpu-1": 1000}

        def fail() -> None:
            raise OperationalError("", {}, Exception())

        monkeypatch.setattr(watchdog, "_resume_what_lies", fail)
        watchdog.look()
        assert beat.stat().st_mtime == 1000
        monkeypatch.setattr(watchdog, "_resume_what_lies", lambda: None)
        watchdog.look()
        assert time.time() - beat.stat().st_mtime < 60


def test_only_a_reconciliation_that_came_to_its_end_is_noted(
    open_round: OpenRound, label_studio: FakeLabelStudio
) -> None:
    label_studio.down = True
    with pytest.raises(LabelStudioUnreachableError):
        reconcile(open_round.backend, open_round.project)
    assert timestamps.last(open_round.backend, timestamps.RECONCILIATION) == {}
    label_studio.down = False
    reconcile(open_round.backend, open_round.project)
    assert list(timestamps.last(open_round.backend, timestamps.RECONCILIATION)) == [
        str(open_round.project.id)
    ]
