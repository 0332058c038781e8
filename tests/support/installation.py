"""A backend with a data directory of its own, run as its engineer runs it: commands and processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from support.label_studio import RunningLabelStudio, free_port

from imil_backend.config import Settings
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.views.status import status

IMIL = Path(sys.executable).with_name("imil")
# A training of seconds, where ImageNet weights cannot be fetched.
SMALL = ("--from-scratch", "--backbone", "resnet18", "--image-size", "32")


@dataclass
class Installation:
    """`imil` runs a command, `start` a process that `keep_running` starts again whenever it has ended."""

    environment: dict[str, str]
    stack: ExitStack
    running: dict[tuple[str, ...], subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def data_dir(self) -> Path:
        return Path(self.environment["IMIL_DATA_DIR"])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.environment['IMIL_PORT']}"

    def imil(self, *arguments: str) -> str:
        done = subprocess.run(
            [IMIL, *arguments], env=self.environment, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def status(self) -> dict[str, Any]:
        """What `imil status --json` says of the first dataset, without seconds of a core for the command."""
        with self.backend() as backend:
            return json.loads(json.dumps(status(backend), default=str))["datasets"][0]  # type: ignore[no-any-return]

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = (str(IMIL), *arguments)
        self.running[command] = process = self.start_once(*arguments)
        return process

    def start_once(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a process that is not started again."""
        process = subprocess.Popen([IMIL, *arguments], env=self.environment)
        self.stack.callback(process.wait)
        self.stack.callback(process.terminate)
        return process

    def stop(self, *arguments: str) -> tuple[str, ...]:
        """kill -9 of the process with these arguments, for good; they are returned, to start it again."""
        command = next(command for command in self.running if command[-len(arguments) :] == arguments)
        self.running.pop(command)
        self.kill(*arguments)
        return arguments

    def keep_running(self) -> None:
        """What a supervisor does: start again what has ended."""
        for command, process in list(self.running.items()):
            if process.poll() is not None:
                self.running[command] = self.start_once(*command[1:])

    def answers(self) -> bool:
        """Whether the web process answers."""
        try:
            return requests.get(f"{self.url}/health", timeout=5).ok
        except requests.RequestException:
            return False

    @contextmanager
    def backend(self) -> Iterator[Backend]:
        """The store and the masks, for the test's own eyes."""
        settings = Settings(
            _env_file=None,
            data_dir=self.data_dir,
            database_url=self.environment.get("IMIL_DATABASE_URL"),
            label_studio_url=self.environment["LABEL_STUDIO_URL"],
            label_studio_api_key=self.environment["LABEL_STUDIO_API_KEY"],
        )
        backend = Backend(settings)
        try:
            yield backend
        finally:
            backend.close()

    def processes(self, *words: str) -> list[psutil.Process]:
        """Everything that works on this data directory, or what of it has all these words in its command."""
        mine = str(self.data_dir)
        return [
            process
            for process in psutil.process_iter(["environ", "cmdline"])
            if (process.info["environ"] or {}).get("IMIL_DATA_DIR") == mine
            and process.status() != psutil.STATUS_ZOMBIE
            and all(word in " ".join(process.info["cmdline"] or []) for word in words)
        ]

    def kill(self, *words: str) -> None:
        """kill -9 of everything, or of what has all these words in its command; and wait until it is gone."""
        killed = self.processes(*words)
        for process in killed:
            process.kill()
        psutil.wait_procs(killed, timeout=10)

    def wait_for(self, condition: Callable[[dict[str, Any]], bool], seconds: float = 300) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while not condition(status := self.status()):
            assert time.monotonic() < deadline, status
            assert not (status["round"] or {}).get("error"), status["round"]
            time.sleep(0.3)
        return status


def make_environment(data_dir: Path, label_studio: RunningLabelStudio) -> dict[str, str]:
    """What an installation's commands and processes are told."""
    return {
        **os.environ,
        "IMIL_DATA_DIR": str(data_dir),
        "IMIL_PORT": str(free_port()),
        "LABEL_STUDIO_URL": label_studio.url,
        "LABEL_STUDIO_API_KEY": label_studio.api_key,
    }


@pytest.fixture
def installation(tmp_path: Path, label_studio: RunningLabelStudio) -> Iterator[Installation]:
    with ExitStack() as stack:
        yield Installation(make_environment(tmp_path / "data", label_studio), stack)


@pytest.fixture(scope="session")
def baseline(tmp_path_factory: pytest.TempPathFactory, label_studio: RunningLabelStudio) -> Path:
    """The data directory of an installation with a trained baseline and nothing pushed, to be copied."""
    folder = tmp_path_factory.mktemp("baseline")
    with ExitStack() as stack:
        installation = Installation(make_environment(folder / "data", label_studio), stack)
        train_small_baseline(installation, folder / "phantoms")
    return folder / "data"


@pytest.fixture
def trained(installation: Installation, baseline: Path) -> Installation:
    """Phantoms imported, a small baseline trained, both processes running."""
    shutil.copytree(baseline, installation.data_dir)
    installation.start("serve")
    installation.start("worker")
    installation.wait_for(lambda _: installation.answers())
    return installation


def train_small_baseline(installation: Installation, phantoms: Path) -> None:
    """Draw and import phantoms and train a baseline of some seconds, without any process left running."""
    installation.imil("phantoms", str(phantoms), "--count", "60", "--size", "256")
    installation.imil("import", str(phantoms), "--name", "phantoms")
    installation.imil("train", *SMALL, "--epochs", "4")
