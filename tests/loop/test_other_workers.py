"""Who is asked to take part in a training on several hosts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from loop_fakes import make_backend
from support.conditions import wait_until

from imil_backend.config import Settings, load_settings
from imil_backend.errors import SettingsError
from imil_backend.loop.base import timestamps
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.queues import hosts
from imil_backend.loop.queues.engine import joining_queue
from imil_backend.loop.queues.hosts import OtherWorkers, own_address
from imil_backend.loop.queues.launching import worker_lock

ROUND = 7
NODES = 3


class Queues:
    """Remembers who was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def enqueue(self, _workflow: str, queue: str, round_id: int, **_: Any) -> str:
        assert round_id == ROUND
        self.asked.append(queue)
        return "workflow"


class Workers:
    """Workers that run until they are stopped."""

    def __init__(self, backend: Backend, stack: ExitStack) -> None:
        self._backend, self._stack, self._running = backend, stack, dict[str, ExitStack]()

    def start(self, *names: str) -> None:
        for name in names:
            self._running[name] = self._stack.enter_context(ExitStack())
            self._running[name].enter_context(worker_lock(self._backend, name))
            timestamps.touch(self._backend, timestamps.WORKER, name)

    def stop(self, name: str) -> None:
        self._running.pop(name).close()


@pytest.fixture
def backend(tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    monkeypatch.setattr(hosts, "SECONDS_BETWEEN_LOOKS", 0.0)
    backend = make_backend(tmp_path, database_url=postgres_url, training_nodes=NODES)
    yield backend
    backend.close()


@pytest.fixture
def workers(backend: Backend) -> Iterator[Workers]:
    with ExitStack() as stack:
        yield Workers(backend, stack)


@pytest.mark.external
def test_as_many_running_workers_as_are_set_are_asked_once_for_each_rendezvous(
    backend: Backend, workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    queues = Queues()
    others = OtherWorkers(backend, queues, "a", ROUND)  # type: ignore[arg-type]
    timestamps.touch(backend, timestamps.WORKER, "gone")
    workers.start("a", "b")
    assert others.invite("first")
    assert others.invite("first")
    assert queues.asked == [joining_queue("b")]
    assert "Of 3 workers for the training (IMIL_TRAINING_NODES) 2 run." in caplog.text
    workers.start("c", "d")
    assert others.invite("first")
    assert queues.asked == [joining_queue("b"), joining_queue("c")]
    assert others.invite("second")
    assert queues.asked[2:] == [joining_queue("b"), joining_queue("c")]


@pytest.mark.external
def test_a_worker_that_was_asked_and_is_gone_is_noticed_and_another_one_is_asked(
    backend: Backend, workers: Workers
) -> None:
    queues = Queues()
    others = OtherWorkers(backend, queues, "a", ROUND)  # type: ignore[arg-type]
    workers.start("a", "b", "c", "d")
    assert others.invite("first")
    workers.stop("b")
    wait_until(lambda: not others.invite("first"), 10)  # PostgreSQL ends the session in a while
    assert others.invite("second")
    assert queues.asked[2:] == [joining_queue("c"), joining_queue("d")]


@pytest.mark.external
def test_a_host_s_address_is_the_one_that_faces_postgresql_or_the_one_that_is_set(
    backend: Backend, tmp_path: Path
) -> None:
    assert own_address(backend) == "127.0.0.1"
    settings = backend.settings.model_copy(update={"training_address": "10.0.0.7"})
    assert own_address(Backend(settings)) == "10.0.0.7"


def test_an_address_that_cannot_be_told_is_asked_for(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, data_dir=tmp_path, database_url="postgresql://nowhere.invalid/imil")
    with pytest.raises(SettingsError, match="Set IMIL_TRAINING_ADDRESS"):
        own_address(Backend(settings))


def test_several_hosts_need_postgresql() -> None:
    with pytest.raises(SettingsError, match=r"IMIL_TRAINING_NODES: .* need PostgreSQL"):
        load_settings(_env_file=None, training_nodes=2)
