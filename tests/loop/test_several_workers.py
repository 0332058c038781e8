"""A dead worker's round is finished once: after its restart, or by another worker. Real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from loop_fakes import (
    LENIENT,
    FakeLabelStudio,
    chosen,
    make_backend,
    make_dataset,
    make_project,
    make_round,
    make_version,
)
from sqlalchemy import select, text
from support.conditions import wait_until

from imil_backend.errors import RoundError
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.locks import LockTakenError, locked
from imil_backend.loop.queues.engine import prepare
from imil_backend.loop.queues.launching import worker_is_running, worker_lock
from imil_backend.loop.queues.watchdog import LOCK_LOST
from imil_backend.store.tables import Dataset, Promotion, Round, Version

pytestmark = pytest.mark.slow  # processes of workers

PROGRAM = Path(__file__).with_name("working.py")
Start = Callable[..., "subprocess.Popen[str]"]
wait_a_minute_until = partial(wait_until, seconds=60)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.external)])
def database_url(request: pytest.FixtureRequest) -> str | None:
    return request.getfixturevalue("postgres_url") if request.param == "postgresql" else None


@pytest.fixture
def answered(tmp_path: Path, database_url: str | None) -> Iterator[Backend]:
    """An open round whose answers close it as soon as a worker sees them."""
    backend = make_backend(tmp_path, database_url=database_url)
    prepare(backend)
    label_studio = FakeLabelStudio(tmp_path / "label_studio.json")
    dataset = make_dataset(backend)
    with backend.store.begin() as session:
        found = session.get_one(Dataset, dataset.id)
        found.policy, found.recipe = {**LENIENT, "next_round": False}, {"pretrained": False}
    version = make_version(backend, dataset, wrong=["train-0"])
    make_round(backend, label_studio, make_project(backend, dataset), version, ["train-0"])
    label_studio.annotate(next(iter(label_studio.tasks_there)), chosen("nothing_to_black_out"))
    yield backend
    backend.close()


@pytest.fixture
def start(tmp_path: Path, database_url: str | None) -> Iterator[Start]:
    """Starts a worker, and gives it back when it runs; all are killed at the end."""
    environment = dict(os.environ)
    if database_url:
        environment["IMIL_DATABASE_URL"] = database_url
    with ExitStack() as stack:

        def start(*arguments: str, says: str = "[]") -> subprocess.Popen[str]:
            command = [sys.executable, PROGRAM, tmp_path, *arguments]
            worker = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
            stack.callback(worker.wait)
            stack.callback(worker.kill)
            assert worker.stdout is not None
            stack.callback(worker.stdout.close)
            assert says in worker.stdout.readline()
            return worker

        yield start


def trainings(backend: Backend) -> list[str]:
    """The workers that have begun to train the round, in order."""
    return [line for path in backend.directory.rglob("trainings") for line in path.read_text().split()]


def state(backend: Backend) -> str:
    with backend.store.begin() as session:
        return session.scalars(select(Round)).one().state


def finish(backend: Backend) -> None:
    (backend.directory / "go").touch()
    wait_a_minute_until(lambda: state(backend) == "closed")


def assert_trained_once(backend: Backend) -> None:
    with backend.store.begin() as session:
        assert len(session.scalars(select(Version)).all()) == 2  # the baseline, and the round's
        assert len(session.scalars(select(Promotion)).all()) == 2


def test_a_dead_worker_s_round_goes_on_when_it_is_started_again(answered: Backend, start: Start) -> None:
    first = start("a")
    wait_a_minute_until(lambda: trainings(answered) == ["a"])
    first.kill()
    first.wait()
    start("a")
    wait_a_minute_until(lambda: trainings(answered) == ["a", "a"])
    finish(answered)
    assert_trained_once(answered)


def test_a_dead_worker_s_round_is_taken_over_by_another_and_never_done_by_both(
    answered: Backend, start: Start
) -> None:
    first = start("a")
    wait_a_minute_until(lambda: trainings(answered) == ["a"])
    assert start("b", "a", says="'a' is already running").wait() == 1  # it lives

    first.kill()
    first.wait()
    start("c")  # another worker leaves it alone until it is told
    wait_a_minute_until(lambda: worker_is_running(answered))
    start("b", "a", says="[1]")
    start("a")  # comes back too late
    wait_a_minute_until(lambda: len(trainings(answered)) == 2)
    finish(answered)
    assert trainings(answered)[0] == "a"
    assert len(trainings(answered)) == 2
    assert_trained_once(answered)


def test_the_lock_of_a_round_is_waited_for_and_goes_with_its_process(answered: Backend) -> None:
    program = (
        "import sys, time; from imil_backend.loop.base.backend import Backend;"
        "from imil_backend.config import Settings; from imil_backend.loop.base.locks import locked\n"
        "with locked(Backend(Settings(_env_file=None, data_dir=sys.argv[1])), 'round', 1):\n"
        "    print('held', flush=True); time.sleep(600)"
    )
    environment = dict(os.environ)
    if answered.settings.database_url:
        environment["IMIL_DATABASE_URL"] = answered.settings.database_url
    command = [sys.executable, "-c", program, answered.directory]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(LockTakenError), locked(answered, "round", 1, wait=False):
            pass
        with locked(answered, "round", 2, wait=False):
            pass
        other.kill()
        with locked(answered, "round", 1):
            pass


@pytest.mark.external
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_worker_that_has_lost_its_lock_ends(answered: Backend, start: Start) -> None:
    worker = start("a")
    wait_a_minute_until(lambda: trainings(answered) == ["a"])
    with answered.store.engine.connect() as connection:
        sessions = "SELECT pid FROM pg_locks WHERE locktype = 'advisory'"
        connection.execute(text(f"SELECT pg_terminate_backend(pid) FROM ({sessions}) AS holding"))
    assert worker.wait(60) == LOCK_LOST
    with worker_lock(answered, "a"):
        pass


def test_a_worker_id_is_taken_once(answered: Backend) -> None:
    assert not worker_is_running(answered)
    with worker_lock(answered, "a") as lock:
        assert lock.is_held()
        assert worker_is_running(answered)
        with pytest.raises(RoundError, match="'a' is already running"), worker_lock(answered, "a"):
            pass
        with worker_lock(answered, "b"):
            pass
    assert not worker_is_running(answered)
