"""A data directory that an earlier release left is opened, and its round is finished in it.

Made by tests/fixtures/releases/make_0004.py. The round's training is made up, as in other tests of the loop.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from loop_fakes import URL
from sqlalchemy import select, text

from imil_backend.config import Settings
from imil_backend.learning.contract.training_job import read_samples
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.states import CLOSED, OPEN
from imil_backend.loop.queues.engine import prepare
from imil_backend.loop.running import workflows
from imil_backend.loop.versions.champions import champion_of
from imil_backend.loop.views.status import status
from imil_backend.store.database import MIGRATIONS
from imil_backend.store.tables import Annotation, AuditEntry, Dataset, Round, Sample, Version

RELEASES = Path(__file__).parents[1] / "fixtures" / "releases"
WORKER = Path(__file__).with_name("working.py")


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """The data directory; the databases are made of their SQL, and paths are those of this place."""
    root = tmp_path / "release"
    shutil.copytree(RELEASES / "0004", root)
    for path in (path for kind in ("sql", "json") for path in root.rglob(f"*.{kind}")):
        path.write_text(path.read_text().replace("{root}", str(root)))
    for dump in (root / "data").glob("*.sql"):
        with sqlite3.connect(dump.with_suffix(".sqlite")) as connection:
            connection.executescript(dump.read_text())
        connection.close()
        dump.unlink()
    return root / "data"


@pytest.fixture
def backend(left: Path) -> Iterator[Backend]:
    """Opened as every command opens it."""
    backend = Backend(Settings(_env_file=None, data_dir=left, label_studio_url=URL))
    prepare(backend)
    yield backend
    backend.close()


@pytest.fixture
def worker(backend: Backend, left: Path) -> Iterator[subprocess.Popen[bytes]]:
    (left / "go").touch()  # its trainings end at once
    with subprocess.Popen([sys.executable, WORKER, left, "worker"]) as process:
        yield process
        process.kill()


def test_its_schema_is_brought_up_to_date_and_nothing_is_lost(left: Path, backend: Backend) -> None:
    with backend.store.begin() as session:
        revision = session.scalar(text("SELECT version_num FROM alembic_version"))
        assert revision == ScriptDirectory(str(MIGRATIONS)).get_current_head() != "0004"
        assert len(session.scalars(select(Sample)).all()) == 40
        assert [row.answer for row in session.scalars(select(Annotation))] == ["blackout", "nothing"]
        assert session.scalars(select(Round)).one().state == OPEN
        assert session.scalars(select(AuditEntry)).all()
        dataset = session.scalars(select(Dataset)).one()
        baseline = champion_of(session, dataset.id)
        assert baseline is not None
        assert len(read_samples(Path(baseline.directory))) == 40
    assert json.dumps(status(backend))


def test_the_steps_of_a_training_keep_the_names_that_dbos_recorded() -> None:
    """DBOS refuses to go on with a workflow whose steps have other names than those it has recorded."""
    names = {getattr(step, "dbos_function_name", None) for step in vars(workflows).values()}
    assert names >= {"_bring_in_line", "_lay_down_job", "_run_job", "_conclude", "_report", "_open_next"}


@pytest.mark.slow
def test_its_round_is_finished_by_a_worker_that_finds_every_answer(
    backend: Backend, worker: subprocess.Popen[bytes]
) -> None:
    """Two answers were synced before, one has an event in the old queue, one has none."""
    deadline = time.monotonic() + 120
    while (found := _round(backend)).state != CLOSED:
        assert time.monotonic() < deadline, found.state
        assert worker.poll() is None
        time.sleep(0.1)
    with backend.store.begin() as session:
        answers = session.scalars(select(Annotation).order_by(Annotation.label_studio_id)).all()
        assert [row.answer for row in answers] == ["blackout", "nothing", "blackout", "unreadable"]
        baseline, trained = session.scalars(select(Version).order_by(Version.id)).all()
        assert (found.version_id, trained.baseline_id, trained.blacked_out) == (trained.id, baseline.id, 2)
        samples = read_samples(Path(trained.directory))
        assert len(samples) == 39  # without the unreadable one
        assert sum(sample.mask is not None for sample in samples) == 2
    while not (Path(trained.directory) / "report" / "report.md").is_file():  # written after the round closed
        assert time.monotonic() < deadline
        time.sleep(0.1)
    with sqlite3.connect(backend.path("dbos.sqlite")) as queue:
        left_over = queue.execute("SELECT name FROM workflow_status WHERE status = 'ENQUEUED'").fetchall()
    queue.close()
    assert left_over == []


def _round(backend: Backend) -> Round:
    with backend.store.begin() as session:
        return session.scalars(select(Round).where(Round.number == 1)).one()
