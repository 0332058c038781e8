"""A round that two workers train together on two loopback addresses: real trainings, DBOS and PostgreSQL."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from loop_fakes import URL, make_backend, make_dataset
from PIL import Image
from sqlalchemy import select
from support.conditions import wait_until
from tiny_jobs import train

from imil_backend.learning.contract import hosts
from imil_backend.learning.contract.training_job import (
    RESULT_FILE,
    read_json,
    read_samples,
    read_training_job,
    write_training_job,
)
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.queues.engine import prepare
from imil_backend.loop.queues.workflow_queues import WorkflowQueues
from imil_backend.loop.rounds.beginning import begin_training
from imil_backend.loop.rounds.lifecycle import ensure_workflow
from imil_backend.loop.rounds.training import training_progress
from imil_backend.loop.running.worker import running
from imil_backend.loop.versions.training_jobs import directory_of
from imil_backend.store.tables import Round, Sample

pytestmark = [pytest.mark.external, pytest.mark.training, pytest.mark.timeout(900)]

# It does not go on without the other one after 30 seconds: a busy machine may take longer to start it.
PATIENT_WORKER = """
from imil_backend.cli import app
from imil_backend.learning.contract import hosts
hosts.SECONDS_TO_COME_BACK = 300
app()
"""
ADDRESSES = {"one": "127.0.0.1", "two": "127.0.0.2"}  # of the workers
RECIPE = {
    "pretrained": False,
    "backbone": "resnet18",
    "image_size": 32,
    "epochs": 4,
    "batch_size": 32,
    "deterministic": True,
}
TOLERANCE = 1e-5  # as in tests/learning/test_hosts.py
wait_long_until = partial(wait_until, seconds=300)


@pytest.fixture
def backend(tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    """What both hosts share, with a dataset; this process is on the first one."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    backend = make_backend(
        tmp_path, database_url=postgres_url, training_nodes=2, training_address=ADDRESSES["one"]
    )
    prepare(backend)
    make_dataset(backend, train=64, validation=16, test=8)
    _draw(backend)
    yield backend
    backend.close()


def _draw(backend: Backend) -> None:
    """Put noise into the images, since training sets aside those of one grey."""
    random = np.random.default_rng(0)
    with backend.store.begin() as session:
        for sample in session.scalars(select(Sample)):
            Image.fromarray(random.integers(0, 256, (40, 40), np.uint8)).save(sample.path)
            sample.sha256 = hashlib.sha256(Path(sample.path).read_bytes()).hexdigest()


@pytest.fixture
def start(backend: Backend, postgres_url: str) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Starts a worker; all are killed at the end."""
    with ExitStack() as stack:

        def start(worker_id: str) -> subprocess.Popen[bytes]:
            environment = {
                **os.environ,
                "IMIL_DATA_DIR": str(backend.directory),
                "IMIL_DATABASE_URL": postgres_url,
                "IMIL_TRAINING_NODES": "2",
                "IMIL_TRAINING_ADDRESS": ADDRESSES[worker_id],
                "LABEL_STUDIO_URL": URL,
            }
            command = [sys.executable, "-c", PATIENT_WORKER, "worker", "--id", worker_id]
            worker = subprocess.Popen(command, env=environment, cwd=backend.directory)
            stack.callback(worker.wait)
            stack.callback(worker.kill)
            return worker

        yield start


def begin(backend: Backend, **recipe: object) -> None:
    round_ = begin_training(backend, None, {**RECIPE, **recipe}, {}, fresh=True)
    with closing(WorkflowQueues(backend)) as queues:
        ensure_workflow(backend, queues, round_)


def latest(backend: Backend) -> Round:
    with backend.store.begin() as session:
        return session.scalars(select(Round).order_by(Round.id.desc()).limit(1)).one()


def job_directory(backend: Backend) -> Path:
    return directory_of(backend, str(latest(backend).version_name))


def result(backend: Backend) -> dict[str, Any]:
    wait_long_until(lambda: latest(backend).state != "training")
    assert (latest(backend).state, latest(backend).error) == ("closed", None)
    return dict(read_json(job_directory(backend) / RESULT_FILE))


def wait_for_second_epoch(backend: Backend) -> None:
    def is_there() -> bool:
        progress = training_progress(backend, latest(backend)) or {}
        return progress.get("phase") == "training" and progress["epoch"] == 2

    wait_long_until(is_there)


def trains_the_round(worker: subprocess.Popen[bytes]) -> bool:
    """Whether it is the one that began the training, and that the others meet at."""
    children = psutil.Process(worker.pid).children(recursive=True)
    return any("is_host=1" in word for child in children for word in child.cmdline())


def losses(found: dict[str, Any]) -> list[float]:
    return [loss for each in found["epochs"] for loss in (each["train_loss"], each["validation"]["loss"])]


@pytest.mark.parametrize("first", [False, True], ids=["one that joined", "the one that began"])
def test_a_killed_worker_comes_back_to_the_training_and_the_losses_are_those_of_one_process(
    backend: Backend, start: Callable[[str], subprocess.Popen[bytes]], tmp_path: Path, first: bool
) -> None:
    workers = {name: start(name) for name in ADDRESSES}
    begin(backend)
    wait_for_second_epoch(backend)
    killed = next(name for name, worker in workers.items() if trains_the_round(worker) == first)
    workers[killed].kill()
    workers[killed].wait()
    start(killed)
    together = result(backend)
    assert together["choices"]["processes"] == 2

    job = job_directory(backend)
    write_training_job(tmp_path / "alone", read_training_job(job), read_samples(job))
    alone = train(tmp_path / "alone")
    assert alone["choices"]["processes"] == 1
    assert losses(together) == pytest.approx(losses(alone), abs=TOLERANCE)


def test_a_worker_that_never_comes_fails_the_round_with_a_reason_and_it_can_be_retried(
    backend: Backend, start: Callable[[str], subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(backend, "one"):
        with monkeypatch.context() as patch:
            patch.setattr(hosts, "SECONDS_TO_COME", 2)
            begin(backend, epochs=2)
            wait_long_until(lambda: latest(backend).state == "failed")
        assert "for the 2 hosts of IMIL_TRAINING_NODES, and not all came" in str(latest(backend).error)
        failed = latest(backend).id

        start("two")
        begin(backend, epochs=2)
        assert result(backend)["choices"]["processes"] == 2
        assert latest(backend).id == failed
