from __future__ import annotations

import os
import shutil
import time
from datetime import timedelta
from pathlib import Path

import pytest
from loop_fakes import OpenRound, chosen, make_version, mask_of, on_both_databases, region
from prometheus_client import CollectorRegistry

import imil_backend
from imil_backend.errors import RoundError, StoreError
from imil_backend.learning.contract.training_job import PROGRESS_FILE, write_json
from imil_backend.loop.answers.reconcile import reconcile
from imil_backend.loop.base import timestamps
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.states import CLOSED, TRAINING
from imil_backend.loop.cleanup.removal import find_removable
from imil_backend.loop.monitoring import figures
from imil_backend.loop.monitoring.disk_usage import DiskUsage
from imil_backend.loop.monitoring.figures import LoopFigures
from imil_backend.loop.queues.engine import SYNC_QUEUE, TRAINING_QUEUE, prepare
from imil_backend.loop.queues.launching import worker_lock
from imil_backend.loop.queues.names import SYNC_WORKFLOW, TRAIN_WORKFLOW
from imil_backend.loop.queues.workflow_queues import WorkflowQueues
from imil_backend.loop.rounds.lifecycle import change_state
from imil_backend.loop.versions.champions import promote, reject
from imil_backend.loop.versions.training_jobs import directory_of
from imil_backend.loop.views.status import status
from imil_backend.store.tables import Round, now


class Scraped:
    """The figures of a backend at this moment."""

    def __init__(self, backend: Backend) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(LoopFigures(backend))

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"imil_{name}", labels)


@on_both_databases
def test_rounds_answers_and_queues(open_round: OpenRound) -> None:
    backend = open_round.backend
    prepare(backend)
    for task, answer in zip(open_round.tasks, (region(mask_of(1)), chosen("label_wrong")), strict=False):
        open_round.label_studio.annotate(task, answer)
    reconcile(backend, open_round.project)
    queues = WorkflowQueues(backend)
    queues.enqueue(SYNC_WORKFLOW, SYNC_QUEUE, 1, 1)
    queues.enqueue(SYNC_WORKFLOW, SYNC_QUEUE, 1, 2)
    queues.enqueue(TRAIN_WORKFLOW, TRAINING_QUEUE, 1, delay=60)
    queues.close()
    dataset = {"dataset": open_round.dataset.name}
    found = Scraped(backend)
    assert found("worker_running") == 0
    with worker_lock(backend, "gpu-1"):
        assert found("worker_running") == 1
    assert found("database_up") == 1
    assert found("rounds", **dataset, state="open") == 1
    assert found("round_number", **dataset) == 1
    assert found("round_state_since_timestamp_seconds", **dataset, state="open") == pytest.approx(
        open_round.round.changed_at.timestamp()
    )
    assert found("round_tasks", **dataset) == 4
    assert found("round_tasks_answered", **dataset) == 2
    assert found("annotations", **dataset, answer="blackout") == 1
    assert found("annotations", **dataset, answer="label_wrong") == 1
    assert found("workflows", queue="sync", state="enqueued") == 2
    assert found("workflows", queue="training", state="delayed") == 1
    oldest = found("oldest_enqueued_workflow_timestamp_seconds", queue="sync")
    assert oldest is not None
    assert abs(time.time() - oldest) < 60
    assert found("oldest_enqueued_workflow_timestamp_seconds", queue="training") is None
    reconciled = found("last_reconciliation_timestamp_seconds", **dataset)
    assert reconciled is not None
    assert abs(time.time() - reconciled) < 60
    assert found("validation_metric", **dataset, role="champion", metric="auc") == 0.8


def test_times_come_from_the_data_directory(open_round: OpenRound) -> None:
    backend = open_round.backend
    prepare(backend)
    found = Scraped(backend)
    assert found("last_backup_timestamp_seconds") is None
    for kind, name in ((timestamps.WORKER, "gpu-1"), (timestamps.BACKUP, "")):
        timestamps.touch(backend, kind, name)
    os.utime(backend.directory / "timestamps" / "worker-gpu-1", (1000, 1000))
    os.utime(backend.directory / "timestamps" / "backup", (2000, 2000))
    assert found("worker_last_seen_timestamp_seconds", worker="gpu-1") == 1000
    assert found("last_backup_timestamp_seconds") == 2000
    made = open_round.project.created_at.timestamp()  # never reconciled: it counts from there
    assert found("last_reconciliation_timestamp_seconds", dataset=open_round.dataset.name) == made


def test_a_training_tells_where_it_is(open_round: OpenRound) -> None:
    backend = open_round.backend
    prepare(backend)
    with backend.store.begin() as session:
        round_ = session.get_one(Round, open_round.id)
        round_.version_name = "candidate"
        change_state(round_, TRAINING)
    progress = {"phase": "training", "epoch": 2, "epochs": 5, "images_per_second": 12.5, "updated_at": 9.0}
    write_json(directory_of(backend, "candidate") / PROGRESS_FILE, progress)
    found, dataset = Scraped(backend), {"dataset": open_round.dataset.name}
    assert found("training_epoch", **dataset) == 2
    assert found("training_epochs", **dataset) == 5
    assert found("training_images_per_second", **dataset) == 12.5
    assert found("training_updated_timestamp_seconds", **dataset) == 9


@on_both_databases
def test_an_undecided_verdict_waits_until_somebody_promotes(open_round: OpenRound) -> None:
    backend = open_round.backend
    prepare(backend)
    with backend.store.begin() as session:
        round_ = session.get_one(Round, open_round.id)
        round_.verdict = {"verdict": "undecided"}
        change_state(round_, CLOSED)
        round_.changed_at = since = now() + timedelta(seconds=1)  # after the promotion of the champion
    found, dataset = Scraped(backend), {"dataset": open_round.dataset.name}
    assert found("verdicts", **dataset, verdict="undecided") == 1
    assert found("undecided_since_timestamp_seconds", **dataset) == pytest.approx(since.timestamp())
    candidate = make_version(backend, open_round.dataset, name="candidate", champion=False)
    with backend.store.begin() as session:
        session.get_one(Round, open_round.id).changed_at = now() - timedelta(milliseconds=1)
        promote(session, candidate, "person")
    assert found("undecided_since_timestamp_seconds", **dataset) is None


@on_both_databases
def test_an_undecided_verdict_waits_until_somebody_keeps_the_champion(open_round: OpenRound) -> None:
    backend = open_round.backend
    prepare(backend)
    candidate = make_version(
        backend, open_round.dataset, name="candidate", baseline=open_round.version, champion=False
    )
    with backend.store.begin() as session:
        round_ = session.get_one(Round, open_round.id)
        round_.verdict, round_.version_id = {"verdict": "undecided", "reason": "r"}, candidate.id
        change_state(round_, CLOSED)
    found, dataset = Scraped(backend), {"dataset": open_round.dataset.name}
    assert found("undecided_since_timestamp_seconds", **dataset) is not None
    assert find_removable(backend, 0) == []
    with backend.store.begin() as session:
        with pytest.raises(RoundError, match="nothing to decide about baseline"):
            reject(session, open_round.version, "ann")
        assert [reject(session, candidate, "ann", "too few images") for _ in range(2)] == [True, False]
    assert found("undecided_since_timestamp_seconds", **dataset) is None
    assert [item.name for item in find_removable(backend, 0)] == ["candidate"]
    assert status(backend)["datasets"][0]["round"]["rejected_by_hand"]
    with backend.store.begin() as session:
        promote(session, candidate, "person")  # on second thoughts
        with pytest.raises(RoundError, match="is the champion"):
            reject(session, candidate, "ann")


def test_without_a_database_the_rest_is_shown(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Backend) -> bool:
        raise StoreError("It is gone.")

    prepare(backend)
    monkeypatch.setattr(figures, "worker_is_running", fail)
    found = Scraped(backend)
    assert found("database_up") == 0
    assert found("rounds") is None
    assert (found("disk_free_bytes") or 0) > 0


@on_both_databases
def test_without_the_data_directory_the_rest_is_shown(backend: Backend) -> None:
    prepare(backend)
    found = Scraped(backend)
    assert (found("disk_free_bytes") or 0) > 0
    shutil.rmtree(backend.directory)
    assert found("disk_free_bytes") is None
    assert found("build_info", version=imil_backend.__version__) == 1
    on_sqlite = backend.store.engine.dialect.name == "sqlite"
    assert found("database_up") == (0 if on_sqlite else 1)
    assert not backend.directory.exists()


def test_folders_are_measured_beside_the_scrape(tmp_path: Path) -> None:
    for name, size in (("masks/a/1.png", 10), ("versions/v/model", 2000), ("imil.sqlite", 7)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * size)
    usage = DiskUsage(tmp_path)
    deadline = time.monotonic() + 30
    while not (sizes := usage.by_kind()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert sizes == {"cache": 0, "images": 0, "masks": 10, "versions": 2000, "weights": 0, "other": 7}


def test_no_label_names_a_person_a_sample_or_a_file(open_round: OpenRound) -> None:
    prepare(open_round.backend)
    open_round.label_studio.annotate(open_round.tasks[0], region(mask_of(1)), by=4711)
    reconcile(open_round.backend, open_round.project)
    labels = {
        (name, value)
        for family in Scraped(open_round.backend).registry.collect()
        for sample in family.samples
        for name, value in sample.labels.items()
    }
    names = {"version", "kind", "worker", "queue", "dataset", "state", "verdict", "answer", "role", "metric"}
    assert {name for name, _ in labels} <= names
    assert not any(part in value for _, value in labels for part in ("train-", "4711", "/"))
