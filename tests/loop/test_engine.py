from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from dbos import DBOS
from loop_fakes import make_backend, on_both_databases
from sqlalchemy import event, text
from sqlalchemy.engine import Engine
from support.conditions import wait_until
from support.waiting import waits

from imil_backend.config import Settings
from imil_backend.errors import RoundError, StoreError
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.set_aside import forget_set_aside, note_set_aside
from imil_backend.loop.queues import workflow_queues
from imil_backend.loop.queues.ended import remove_ended_workflows
from imil_backend.loop.queues.engine import APPLICATION, SYNC_QUEUE, prepare
from imil_backend.loop.queues.launching import launched, worker_is_running, worker_lock
from imil_backend.loop.queues.workflow_queues import WorkflowQueues
from imil_backend.loop.running import steps
from imil_backend.store.tables import Dataset, Project, SetAside

pytestmark = pytest.mark.slow  # databases


@pytest.fixture
def prepared(tmp_path: Path) -> Backend:
    backend = Backend(Settings(_env_file=None, data_dir=tmp_path / "data"))
    prepare(backend)
    return backend


def test_the_same_workflow_enqueued_twice_is_one(prepared: Backend) -> None:
    queues = WorkflowQueues(prepared)
    assert queues.status("train-1-1") is None
    for _ in range(2):
        assert queues.enqueue("train_round", SYNC_QUEUE, 1, workflow_id="train-1-1") == "train-1-1"
    assert queues.status("train-1-1") == "ENQUEUED"
    assert queues.result("train-1-1") is None
    first, second = (queues.enqueue("sync_annotation", SYNC_QUEUE, 3, 18) for _ in range(2))
    assert first != second
    queues.close()


@on_both_databases
def test_a_hint_that_waits_already_is_not_enqueued_again(backend: Backend) -> None:
    prepare(backend)
    web, another_web = WorkflowQueues(backend), WorkflowQueues(backend)

    def hint(queues: WorkflowQueues, annotation: int) -> str:
        return queues.enqueue("sync_annotation", SYNC_QUEUE, 3, annotation, unless_waiting=True)

    with ThreadPoolExecutor(8) as pool:
        found = pool.map(hint, [web, another_web] * 84, [number % 28 for number in range(168)])
        hints = {number % 28: each for number, each in enumerate(found)}
        assert len(set(hints.values())) == 28
    web.has_begun(hints[18])
    second = hint(web, 18)  # what it tells may have come after the first has looked
    assert second not in hints.values()
    assert hint(another_web, 18) == second
    assert hint(web, 17) == hints[17]
    web.close()
    another_web.close()


@on_both_databases
def test_an_event_waits_for_a_database_that_others_hold_for_a_while_only(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(backend)
    monkeypatch.setattr(workflow_queues, "RECORD_SECONDS", 1)
    web, others = WorkflowQueues(backend), WorkflowQueues(backend)
    web.status("nothing")  # connects
    began = time.monotonic()
    with others._client._sys_db.engine.begin() as connection:
        on_sqlite = backend.store.engine.dialect.name == "sqlite"
        connection.execute(text("BEGIN IMMEDIATE" if on_sqlite else "LOCK TABLE dbos.workflow_status"))
        with pytest.raises(StoreError, match="cannot be used"):
            web.enqueue("sync_annotation", SYNC_QUEUE, 3, 18, unless_waiting=True)
    assert 0.5 < time.monotonic() - began < 10
    web.close()
    others.close()


def test_an_event_that_comes_while_its_annotation_is_read_is_looked_at_afterwards(
    prepared: Backend, monkeypatch: pytest.MonkeyPatch, log_of_this_test: None
) -> None:
    reads, go_on = [], threading.Event()

    def read(*_: object) -> str:
        reads.append(_)
        assert go_on.wait(30)
        return "answered"

    monkeypatch.setattr(steps, "sync_annotation", read)
    monkeypatch.setattr(steps, "_project", lambda _: Project(dataset_id=1))
    monkeypatch.setattr(steps.lifecycle, "close_due_rounds", lambda *_: None)
    queues = WorkflowQueues(prepared)
    steps.use(prepared, queues)

    def hint() -> str:
        return queues.enqueue("sync_annotation", SYNC_QUEUE, 3, 18, unless_waiting=True)

    with launched(prepared):
        first = hint()
        wait_until(lambda: len(reads) == 1)
        later = {hint() for _ in range(3)}
        go_on.set()
        wait_until(lambda: {queues.status(each) for each in {first, *later}} == {"SUCCESS"})
    queues.close()
    assert len(later - {first}) == 1
    assert len(reads) == 2


@on_both_databases
def test_workflows_that_ended_long_ago_are_removed_and_others_stay(backend: Backend) -> None:
    prepare(backend)
    queues = WorkflowQueues(backend)
    ended, waiting = (queues.enqueue("sync_annotation", SYNC_QUEUE, 3, 18) for _ in range(2))
    queues._client.cancel_workflow(ended)
    assert remove_ended_workflows(backend) == 0
    assert remove_ended_workflows(backend, timedelta(0)) == 1
    assert (queues.status(ended), queues.status(waiting)) == (None, "ENQUEUED")
    queues.close()


def test_preparing_again_is_a_few_looks(prepared: Backend) -> None:
    statements: list[str] = []

    def note(*arguments: Any) -> None:
        statements.append(arguments[2])

    event.listen(Engine, "before_cursor_execute", note)
    try:
        with waits() as waited:
            prepare(prepared)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert {statement.split()[0] for statement in statements} <= {"SELECT", "PRAGMA", "BEGIN"}
    assert 0 < len(statements) < 20  # 227 at the first time
    assert waited == []


def test_one_worker_of_an_id_runs_and_others_may_look_meanwhile(prepared: Backend) -> None:
    assert not worker_is_running(prepared)
    with worker_lock(prepared, "a"):
        assert worker_is_running(prepared)
        with (
            pytest.raises(RoundError, match="'a' is already running"),
            worker_lock(prepared, "a"),
        ):
            pass
        with worker_lock(prepared, "b"):
            assert worker_is_running(prepared)
    assert not worker_is_running(prepared)


def test_questions_whether_a_worker_runs_never_keeps_one_from_starting(prepared: Backend) -> None:
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            worker_is_running(prepared)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(20):
            with worker_lock(prepared, "worker"):
                pass
    finally:
        stop.set()
        asking.join()


@on_both_databases
def test_a_queue_in_which_nothing_waits_is_looked_at_and_not_dequeued(
    backend: Backend, log_of_this_test: None
) -> None:
    prepare(backend)
    looks, dequeued = [], []
    queues = WorkflowQueues(backend)
    with launched(backend):
        tables = DBOS(config={"name": APPLICATION})._sys_db
        look, dequeue = tables.dequeue_scopes, tables.start_queued_workflows
        tables.dequeue_scopes = lambda queue: looks.append(queue) or look(queue)
        tables.start_queued_workflows = lambda queue, *more, **named: (
            dequeued.append(queue.name) or dequeue(queue, *more, **named)
        )
        wait_until(lambda: looks.count(SYNC_QUEUE) > 2)
        assert dequeued == []
        queues.enqueue("nothing of this name", SYNC_QUEUE)
        wait_until(lambda: bool(dequeued))
    assert dequeued == [SYNC_QUEUE]
    queues.close()


def test_a_data_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="IMIL_DATA_DIR"):
        Backend(Settings(_env_file=None, data_dir=tmp_path / "file" / "data"))


def test_secrets_are_made_once_whole_and_for_the_owner_alone(tmp_path: Path) -> None:
    backend = make_backend(tmp_path / "data")
    found: set[bytes] = set()
    makers = [threading.Thread(target=lambda: found.add(backend.group_key())) for _ in range(8)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    (key,) = found
    assert len(key) == 32
    (path,) = (tmp_path / "data" / "secrets").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(backend.webhook_secrets[0]) == 64
    assert backend.webhook_secrets == make_backend(tmp_path / "data").webhook_secrets


def test_what_is_set_aside_is_noted_once_with_its_latest_reason_until_it_is_taken_back(
    backend: Backend, dataset: Dataset
) -> None:
    for reason in ("first", "x" * 3000):
        with backend.store.begin() as session:
            note_set_aside(session, dataset.id, [("image", "a", reason), ("image", "b", reason)])
    with backend.store.begin() as session:
        assert [len(row.reason) for row in session.query(SetAside)] == [2000, 2000]
        forget_set_aside(session, dataset.id, "image", ["a"])
        session.flush()
        assert [row.reference for row in session.query(SetAside)] == ["b"]
