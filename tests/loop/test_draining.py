"""A worker that takes no more work."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import Any

import pytest
from loop_fakes import OpenRound, on_both_databases
from support.conditions import wait_until

from imil_backend.loop.base.backend import Backend
from imil_backend.loop.queues.draining import drain, drain_is_wanted, forget_drain
from imil_backend.loop.queues.engine import SYNC_QUEUE, prepare
from imil_backend.loop.queues.launching import worker_lock
from imil_backend.loop.queues.names import SYNC_WORKFLOW
from imil_backend.loop.queues.workflow_queues import WorkflowQueues
from imil_backend.loop.running import steps, worker

pytestmark = pytest.mark.slow  # databases


@on_both_databases
def test_whoever_drains_a_worker_waits_until_it_has_ended(backend: Backend) -> None:
    assert not drain(backend, "gpu-1")
    ended: list[bool] = []
    draining = threading.Thread(target=lambda: ended.append(drain(backend, "gpu-1")))
    with worker_lock(backend, "gpu-1"):
        draining.start()
        wait_until(lambda: drain_is_wanted(backend, "gpu-1"))
        assert not drain_is_wanted(backend, "gpu-2")
    draining.join()
    assert ended == [True]
    assert not drain_is_wanted(backend, "gpu-1")


def test_a_worker_that_is_started_again_at_once_ends_the_waiting(backend: Backend) -> None:
    draining = threading.Thread(target=drain, args=(backend, "worker"))
    with worker_lock(backend, "worker"):
        draining.start()
        wait_until(lambda: drain_is_wanted(backend, "worker"))
        forget_drain(backend, "worker")
        draining.join(30)
    assert not draining.is_alive()


def test_what_is_under_way_is_finished_and_nothing_else_is_taken(
    open_round: OpenRound, monkeypatch: pytest.MonkeyPatch, log_of_this_test: None
) -> None:
    begun, go, stopped = threading.Event(), threading.Event(), threading.Event()

    def sync(*_: Any) -> str:
        begun.set()
        assert go.wait(30)
        return "nothing"

    let_end = worker.let_workflows_end

    def end(engine: Any) -> None:
        for event in engine.background_thread_stop_events:
            event.set()
        stopped.set()
        let_end(engine)

    monkeypatch.setattr(steps, "sync_annotation", sync)
    monkeypatch.setattr(worker, "let_workflows_end", end)
    prepare(open_round.backend)

    def enqueue_late(queues: WorkflowQueues) -> None:
        assert stopped.wait(30)
        queues.enqueue(SYNC_WORKFLOW, SYNC_QUEUE, 3, 19, workflow_id="late")
        go.set()

    with worker.running(open_round.backend) as queues:
        queues.enqueue(SYNC_WORKFLOW, SYNC_QUEUE, 3, 18, workflow_id="first")
        assert begun.wait(30)
        late = threading.Thread(target=enqueue_late, args=(queues,))
        late.start()
    late.join()
    with closing(WorkflowQueues(open_round.backend)) as queues:
        assert [queues.status(each) for each in ("first", "late")] == ["SUCCESS", "ENQUEUED"]
