"""What the page of the machine shows."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from loop_fakes import OpenRound
from support.conditions import wait_until

from imil_backend.learning.child.reporting import Reporter
from imil_backend.loop.base import timestamps
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.states import TRAINING
from imil_backend.loop.dashboard.machine import checks as checks_module
from imil_backend.loop.dashboard.machine.checks import Checks
from imil_backend.loop.dashboard.machine.machine import Machine, machine_of
from imil_backend.loop.queues.engine import SYNC_QUEUE, prepare
from imil_backend.loop.queues.names import SYNC_WORKFLOW
from imil_backend.loop.queues.workflow_queues import WorkflowQueues
from imil_backend.loop.rounds.lifecycle import change_state
from imil_backend.loop.upkeep.check_results import CheckResult, State
from imil_backend.loop.versions.training_jobs import directory_of

EPOCHS = [
    {
        "epoch": number,
        "train_loss": 1 / number,
        "validation": {"loss": None if number == 2 else 0.5, "accuracy": 0.75},
        "images_per_second": 40.0,
    }
    for number in (1, 2)
]


@pytest.fixture
def no_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks_module, "examine", lambda *_, **__: [])


def machine(backend: Backend) -> Machine:
    prepare(backend)
    return machine_of(backend, Checks(backend))


@pytest.mark.usefixtures("no_checks")
def test_queues_workers_and_projects(open_round: OpenRound) -> None:
    prepare(open_round.backend)
    queues = WorkflowQueues(open_round.backend)
    queues.enqueue(SYNC_WORKFLOW, SYNC_QUEUE, 1, 1)
    queues.close()
    timestamps.touch(open_round.backend, timestamps.WORKER, "worker")
    timestamps.touch(open_round.backend, timestamps.RECONCILIATION, open_round.project.id)
    found = machine(open_round.backend)
    assert [(each.queue, each.state, each.count) for each in found.workflows] == [(SYNC_QUEUE, "enqueued", 1)]
    assert list(found.workers) == ["worker"]
    assert not found.worker_runs
    (connection,) = found.connections
    assert connection.link == "https://label-studio.example.org/projects/3/data"
    assert connection.reconciled is not None
    assert connection.repaired is None
    assert found.trainings == ()
    assert 0 < found.free < found.size


@pytest.mark.usefixtures("no_checks")
def test_a_training_shows_its_epochs(open_round: OpenRound) -> None:
    with open_round.backend.store.begin() as session:
        round_ = session.merge(open_round.round)
        round_.version_name = "candidate"
        change_state(round_, TRAINING)
    assert machine(open_round.backend).trainings[0].phase == "waits for the worker"
    reporter = Reporter(directory_of(open_round.backend, "candidate"), 4, enabled=True)
    reporter.set_history(EPOCHS)
    reporter.begin("training", total=8, epoch=3)
    (training,) = machine(open_round.backend).trainings
    assert (training.phase, training.epoch, training.epochs, training.total) == ("training", 3, 4, 8)
    assert training.told is not None
    assert [each.training_loss for each in training.history] == [1.0, 0.5]
    assert training.curve("training_loss") == "80.0,0.0 80.0,0.0 160.0,60.0"
    assert training.curve("validation_loss") == "80.0,60.0 80.0,60.0"  # one point alone is not drawn


def test_checks_are_made_in_the_background_and_kept_for_a_while(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end, made = threading.Event(), []

    def examine(_: Backend, *, probe: bool) -> list[CheckResult]:
        assert not probe
        may_end.wait(10)
        made.append(1)
        return [CheckResult("disk", State.OK, "Enough.")]

    monkeypatch.setattr(checks_module, "examine", examine)
    checks = Checks(backend)
    assert checks.latest() is None
    may_end.set()
    wait_until(lambda: checks.latest() is not None)
    found = checks.latest()
    assert found is not None
    assert [each.subject for each in found.results] == ["disk"]
    monkeypatch.setattr(checks_module, "SECONDS_BETWEEN_CHECKS", 0.0)
    checks.latest()
    wait_until(lambda: len(made) > 1)


def test_checks_that_fail_are_logged_and_end_nothing(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def examine(*_: object, **__: object) -> list[CheckResult]:
        raise ZeroDivisionError

    monkeypatch.setattr(checks_module, "examine", examine)
    checks = Checks(backend)
    checks.latest()
    wait_until(lambda: "The checks of the dashboard failed" in caplog.text)
    assert checks.latest() is None


def test_a_progress_of_an_earlier_release_has_no_history(tmp_path: Path) -> None:
    from imil_backend.learning.contract.training_job import PROGRESS_FILE, read_progress, write_json

    write_json(tmp_path / PROGRESS_FILE, {"phase": "training", "epoch": 1})
    progress = read_progress(tmp_path)
    assert progress is not None
    assert progress.history == ()


@pytest.mark.usefixtures("no_checks")
def test_who_waits_is_told_what_is_looked_at_in_the_background(open_round: OpenRound) -> None:
    prepare(open_round.backend)
    found = machine_of(open_round.backend, Checks(open_round.backend), wait=True)
    assert found.checked is not None
    assert found.checked.at <= found.now
    assert found.used["versions"] > 0
