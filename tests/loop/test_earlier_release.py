"""A data directory that an earlier release left is opened, and its round is finished in it.

Made by the programs in tests/fixtures/releases, with an open round, or with one whose training was under way.
What the other states differ by is made up of it here, in the schema and the files of that release. So is what
a training brings, as in other tests.
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
from loop_fakes import URL, FakeLabelStudio
from sqlalchemy import select, text
from support.conditions import wait_until
from support.postgres import programs

from imil_backend.cli.helpers.showing import show_status
from imil_backend.config import Settings
from imil_backend.learning.contract.training_job import CHECKPOINT_FILE, read_samples
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.states import CLOSED, FAILED, OPEN, PUSHING, TRAINING
from imil_backend.loop.queues.engine import prepare
from imil_backend.loop.queues.workflow_queues import WorkflowQueues
from imil_backend.loop.rounds.lifecycle import close_due_rounds, close_round, ensure_workflow
from imil_backend.loop.rounds.training import bring_in_line, prepare_round_training
from imil_backend.loop.running import steps
from imil_backend.loop.versions.champions import champion_of
from imil_backend.loop.views.status import status
from imil_backend.store.database import MIGRATIONS
from imil_backend.store.tables import Annotation, AuditEntry, Dataset, Round, Sample, Version

RELEASES = Path(__file__).parents[1] / "fixtures" / "releases"
WORKER = Path(__file__).with_name("working.py")
CHANGES = {
    # Killed when Label Studio had four tasks and the database two of them.
    PUSHING: "DELETE FROM tasks WHERE id > 2",
    FAILED: "UPDATE rounds SET error = 'The disk was full.'",
}


@pytest.fixture
def left(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The data directory; the databases are made of their SQL, and paths are those of this place.

    Its round is open, or in the state that is the parameter.
    """
    state = getattr(request, "param", OPEN)
    root = tmp_path / "release"
    shutil.copytree(RELEASES / "0004", root)
    if state == TRAINING:
        shutil.copytree(RELEASES / "0004-training", root, dirs_exist_ok=True)
    for path in (path for kind in ("sql", "json") for path in root.rglob(f"*.{kind}")):
        path.write_text(path.read_text().replace("{root}", str(root)))
    for name in ("imil", "dbos"):
        dump = root / "data" / f"{name}.sql"
        with sqlite3.connect(dump.with_suffix(".sqlite")) as connection:
            connection.executescript(dump.read_text())
        connection.close()
        dump.unlink()
    if state in CHANGES:
        _put_round_into(root / "data", state)
    return root / "data"


def _put_round_into(data: Path, state: str) -> None:
    with sqlite3.connect(data / "imil.sqlite") as connection:
        connection.execute(CHANGES[state])
        connection.execute(f"UPDATE rounds SET state = '{state}'")
    connection.close()


@pytest.fixture
def in_postgresql(left: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its databases are in PostgreSQL; requested before `backend`, which opens them."""
    monkeypatch.setenv("IMIL_DATABASE_URL", postgres_url)
    for path in left.glob("*.sqlite"):
        path.unlink()
    options = ["--quiet", "--set", "ON_ERROR_STOP=1", "--file", left / "postgresql.sql"]
    subprocess.run([programs() / "psql", *options, postgres_url], check=True, stdout=subprocess.DEVNULL)


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
    names = {getattr(step, "dbos_function_name", None) for step in vars(steps).values()}
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


@pytest.mark.slow
@pytest.mark.parametrize("left", [PUSHING, FAILED], indirect=True)
def test_a_round_in_any_other_state_is_finished_too(
    backend: Backend, left: Path, worker: subprocess.Popen[bytes]
) -> None:
    queues = WorkflowQueues(backend)
    if _round(backend).state == FAILED:  # `imil train`
        with backend.store.begin() as session:
            again = close_round(session, _round(backend))
        ensure_workflow(backend, queues, again)
    elif _round(backend).state == PUSHING:
        wait_until(lambda: _round(backend).state == OPEN, 120)
        backend.__dict__["label_studio"] = FakeLabelStudio(left / "label_studio.json")
        bring_in_line(backend, _round(backend).id)  # the worker does so every five minutes
        close_due_rounds(backend, queues)
    queues.close()
    wait_until(lambda: _round(backend).state == CLOSED, 120)
    with backend.store.begin() as session:
        answers = session.scalars(select(Annotation).order_by(Annotation.label_studio_id)).all()
        trained = session.scalars(select(Version).order_by(Version.id)).all()[-1]
    assert [row.answer for row in answers] == ["blackout", "nothing", "blackout", "unreadable"]
    assert trained.blacked_out == 2
    assert worker.poll() is None


@pytest.mark.slow
@pytest.mark.parametrize("left", [TRAINING], indirect=True)
def test_a_training_of_that_release_that_is_prepared_anew_starts_over_and_the_status_says_so(
    backend: Backend, left: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backend.__dict__["label_studio"] = FakeLabelStudio(left / "label_studio.json")
    before = str(_round(backend).version_name)
    (left / "versions" / before / CHECKPOINT_FILE).write_bytes(b"of that release")
    bring_in_line(backend, _round(backend).id)
    prepare_round_training(backend, _round(backend).id)
    (dataset,) = status(backend)["datasets"]
    assert dataset["round"]["version"] != before
    assert "release have changed since it was begun" in dataset["round"]["training"]["started_over"]
    show_status({"worker_running": True, "unfinished_erasures": [], "datasets": [dataset]})
    assert "It has started over." in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("left", [TRAINING], indirect=True)
def test_a_training_that_dbos_has_recorded_goes_on_as_it_was_begun(
    backend: Backend, worker: subprocess.Popen[bytes]
) -> None:
    _finishes_as_it_was_begun(backend, worker)


@pytest.mark.slow
@pytest.mark.usefixtures("in_postgresql")
@pytest.mark.parametrize("left", [TRAINING], indirect=True)
def test_and_so_it_does_in_postgresql(backend: Backend, worker: subprocess.Popen[bytes]) -> None:
    _finishes_as_it_was_begun(backend, worker)


def _finishes_as_it_was_begun(backend: Backend, worker: subprocess.Popen[bytes]) -> None:
    begun = str(_round(backend).version_name)
    wait_until(lambda: _round(backend).state == CLOSED, 120)
    with backend.store.begin() as session:
        trained = session.scalars(select(Version).order_by(Version.id)).all()[-1]
    assert trained.name == begun
    assert trained.recipe["correction"] == "blackout"  # the only one that release had
    assert trained.blacked_out == 2
    started = (Path(trained.directory) / "trainings").read_text().split()
    assert started == ["worker", "worker"]  # killed in that release, and done in this one
    assert worker.poll() is None


def _round(backend: Backend) -> Round:
    with backend.store.begin() as session:
        return session.scalars(select(Round).where(Round.number == 1)).one()
