"""One training on two hosts: two addresses of the loopback range, with a torchrun each, joined by gloo."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
from tiny_jobs import JobMaker, lay_down, train

from imil_backend.errors import TrainingFailedError, TrainingStoppedError, WeightsError
from imil_backend.learning.contract import hosts
from imil_backend.learning.contract.hosts import Hosts, Part, Rendezvous
from imil_backend.learning.contract.launch import join_training, run_training
from imil_backend.learning.contract.training_job import (
    CHECKPOINT_FILE,
    RENDEZVOUS_FILE,
    Progress,
    TrainingSample,
)

pytestmark = [pytest.mark.training, pytest.mark.usefixtures("children_of_one_thread")]

FIRST, SECOND = "127.0.0.1", "127.0.0.2"
DETERMINISTIC = {"deterministic": True, "backbone": "resnet18"}
# The same micro-batches are added up in another order, as by two processes of one host: see test_training.py.
TOLERANCE = 1e-5
MEETING = Rendezvous("meeting", f"{FIRST}:1", 2, 2)
JOIN = """
import pathlib, sys
from imil_backend.learning.contract.launch import join_training
sys.exit(join_training(pathlib.Path(sys.argv[1]), sys.argv[2]))
"""


@pytest.fixture(scope="module")
def of_one_process(tmp_path_factory: pytest.TempPathFactory, samples: list[TrainingSample]) -> dict[str, Any]:
    return train(lay_down(tmp_path_factory.mktemp("one"), samples, recipe=DETERMINISTIC))


class SecondHost:
    """Takes part whenever it is invited, until it is switched off."""

    def __init__(self) -> None:
        self.starts: list[subprocess.Popen[bytes]] = []
        self.is_on = True

    def invite(self, directory: Path) -> Callable[[str], bool]:
        def invite(_rendezvous: str) -> bool:
            if self.is_on and (not self.starts or self.starts[-1].poll() is not None):
                self.starts.append(subprocess.Popen([sys.executable, "-c", JOIN, directory, SECOND]))
            return True

        return invite

    def kill(self) -> None:
        """And with it its torchrun, and that one's process."""
        self.starts[-1].kill()


@pytest.fixture
def second_host() -> Iterator[SecondHost]:
    host = SecondHost()
    with ExitStack() as stack:
        stack.callback(lambda: [start.wait() for start in host.starts])
        stack.callback(lambda: [start.kill() for start in host.starts])
        yield host


def in_second_epoch(does: Callable[[], None]) -> Callable[[Progress], None]:
    """Does something once, in the middle of the second epoch."""
    done: list[Progress] = []

    def tell(progress: Progress) -> None:
        if (progress.phase, progress.epoch) == ("training", 2) and not done:
            done.append(progress)
            does()

    return tell


def assert_same_losses(result: dict[str, Any], expected: dict[str, Any]) -> None:
    for ours, theirs in zip(result["epochs"], expected["epochs"], strict=True):
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], abs=TOLERANCE)
        assert ours["validation"]["loss"] == pytest.approx(theirs["validation"]["loss"], abs=TOLERANCE)


def test_two_hosts_compute_what_one_process_does(
    of_one_process: dict[str, Any], make_job: JobMaker, second_host: SecondHost
) -> None:
    job = make_job(recipe=DETERMINISTIC)
    result = run_training(job, hosts=Hosts(2, FIRST, second_host.invite(job)))
    assert result["choices"]["processes"] == 2
    assert_same_losses(result, of_one_process)
    assert not (job / RENDEZVOUS_FILE).exists()


def test_a_killed_host_leaves_the_other_to_go_on_from_the_checkpoint(
    of_one_process: dict[str, Any],
    make_job: JobMaker,
    second_host: SecondHost,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hosts, "SECONDS_TO_COME_BACK", 1)
    job = make_job(recipe=DETERMINISTIC)
    kept: list[int] = []

    def kill() -> None:
        second_host.is_on = False
        second_host.kill()
        kept.append((job / CHECKPOINT_FILE).stat().st_mtime_ns)

    result = run_training(
        job, hosts=Hosts(2, FIRST, second_host.invite(job)), on_progress=in_second_epoch(kill)
    )
    assert kept
    assert second_host.starts[-1].wait() == -signal.SIGKILL
    assert result["choices"]["processes"] == 1
    assert_same_losses(result, of_one_process)


def test_a_host_that_vanished_without_a_word_is_gone_on_without(
    of_one_process: dict[str, Any],
    make_job: JobMaker,
    second_host: SecondHost,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hosts, "SECONDS_TO_COME_BACK", 1)
    job = make_job(recipe=DETERMINISTIC)
    invite, noticed = second_host.invite(job), []

    def look(rendezvous: str) -> bool:
        if second_host.is_on or noticed:
            return invite(rendezvous)
        noticed.append(True)
        return False

    def vanish() -> None:  # its connections stay open, as when a machine loses its power
        second_host.is_on = False
        for process in psutil.Process(second_host.starts[-1].pid).children(recursive=True):
            process.suspend()

    result = run_training(job, hosts=Hosts(2, FIRST, look), on_progress=in_second_epoch(vanish))
    assert noticed
    assert result["choices"]["processes"] == 1
    assert_same_losses(result, of_one_process)


def test_the_others_stop_with_the_first_host(make_job: JobMaker, second_host: SecondHost) -> None:
    job = make_job(recipe=DETERMINISTIC)
    with pytest.raises(TrainingStoppedError):
        run_training(
            job,
            hosts=Hosts(2, FIRST, second_host.invite(job)),
            should_stop=(job / CHECKPOINT_FILE).exists,
        )
    assert second_host.starts[-1].wait(60) != 0


def test_a_host_that_never_comes_is_an_error_after_a_while(
    make_job: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "SECONDS_TO_COME", 2)
    job = make_job(recipe=DETERMINISTIC)
    with pytest.raises(TrainingFailedError, match="for the 2 hosts of IMIL_TRAINING_NODES, and not all came"):
        run_training(job, hosts=Hosts(2, FIRST, lambda _: True))
    assert join_training(job, SECOND) is None  # nobody waits any more


def test_a_host_that_cannot_do_its_part_is_named(make_job: JobMaker, second_host: SecondHost) -> None:
    job = make_job(recipe=DETERMINISTIC, resume_from="nowhere.pt")
    with pytest.raises(WeightsError, match=rf"nowhere\.pt .*\(on {re.escape(socket.gethostname())}\)"):
        run_training(job, hosts=Hosts(2, FIRST, second_host.invite(job)))


@pytest.mark.skipif(sys.platform != "linux", reason="interfaces are asked for as Linux has it")
def test_the_interface_of_the_address_is_used() -> None:
    parts = [Part(Path(), MEETING, address, False, bool, "") for address in (FIRST, "192.0.2.1")]
    assert [part.environment for part in parts] == [
        {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"},
        {},  # not one of ours
    ]
