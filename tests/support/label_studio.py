"""A real Label Studio for the tests: started once, used by all, stopped at the end."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import requests

from imil_backend.label_studio.api.client import LabelStudio

ROOT = Path(__file__).parents[2]
STARTER = ROOT / "scripts" / "label_studio.py"
PASSWORD, TOKEN = "of-the-tests-alone", "0123456789abcdef" * 2 + "01234567"


@dataclass(frozen=True)
class RunningLabelStudio:
    """Where it is and how to get in.

    Attributes:
        api_key: a legacy token.
        local_files: a folder it may serve.
        gcs_port: where it looks for Google Cloud Storage, on this machine.
    """

    url: str
    api_key: str
    local_files: Path
    username: str
    password: str
    gcs_port: int

    @cached_property
    def client(self) -> LabelStudio:
        return LabelStudio(self.url, self.api_key)

    @cached_property
    def personal_access_token(self) -> str:
        """The user's personal access token; Label Studio shows it once, when it is made."""
        answer = self.request("POST", "/api/token/")
        answer.raise_for_status()
        return str(answer.json()["token"])

    def request(self, method: str, path: str, **options: object) -> requests.Response:
        """A request of our own, past the client under test."""
        headers = {"Authorization": f"Token {self.api_key}"}
        return requests.request(method, self.url + path, headers=headers, timeout=30, **options)  # type: ignore[arg-type]

    def ask(self, path: str) -> Any:
        """The JSON at a path, or None where there is nothing."""
        answer = self.request("GET", path)
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        return answer.json()

    def predictions(self, task: int) -> list[Any]:
        """A task's predictions; while there is none it is opened again, until the network is loaded."""
        deadline = time.monotonic() + 120
        while not (found := self.ask(f"/api/tasks/{task}/")["predictions"]):
            assert time.monotonic() < deadline
            time.sleep(0.5)
        return list(found)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_listening(port: int) -> bool:
    """Whether anybody takes connections at a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def missing(what: str, setting: str) -> None:
    """Skip, or fail in CI, where nothing may be missing."""
    message = f"{what} is not there; {setting} names another place"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def first_starts(pytestconfig: pytest.Config) -> Path:
    """Where pytest keeps what first starts of Label Studio have left."""
    return pytestconfig.cache.mkdir("label-studio")


@pytest.fixture(scope="session")
def real_label_studio(
    tmp_path_factory: pytest.TempPathFactory, first_starts: Path
) -> Iterator[RunningLabelStudio]:
    """A fresh Label Studio."""
    executable = _executable("IMIL_TEST_LABEL_STUDIO", ".venv-label-studio")
    with _running(executable, tmp_path_factory, first_starts) as running:
        yield running


@pytest.fixture(scope="session")
def oldest_label_studio(
    tmp_path_factory: pytest.TempPathFactory, first_starts: Path
) -> Iterator[RunningLabelStudio]:
    """A fresh one of the oldest version supported (`scripts/environments.py --oldest-label-studio`)."""
    executable = _executable("IMIL_TEST_OLDEST_LABEL_STUDIO", ".venv-label-studio-oldest")
    with _running(executable, tmp_path_factory, first_starts) as running:
        yield running


def _executable(setting: str, environment: str) -> Path:
    executable = Path(os.environ.get(setting, ROOT / environment / "bin" / "label-studio"))
    if not executable.exists():
        missing(f"Label Studio ({executable})", setting)
    return executable


@contextmanager
def _running(
    executable: Path, tmp_path_factory: pytest.TempPathFactory, cache: Path
) -> Iterator[RunningLabelStudio]:
    data_dir, local_files = tmp_path_factory.mktemp("label-studio"), tmp_path_factory.mktemp("local-files")
    shutil.copytree(_after_first_start(executable, cache), data_dir, dirs_exist_ok=True)
    gcs_port = free_port()
    gcs = f"http://127.0.0.1:{gcs_port}"
    download = gcs + "/download/storage/v1/b/{bucket_name}/o/{blob_name}?alt=media"
    clouds = {"STORAGE_EMULATOR_HOST": gcs, "RESOLVER_PROXY_GCS_DOWNLOAD_URL": download}
    with _started(executable, data_dir, "--local-files", str(local_files), **clouds) as account:
        yield RunningLabelStudio(
            url=account["url"],
            api_key=account["token"],
            local_files=local_files,
            username=account["username"],
            password=account["password"],
            gcs_port=gcs_port,
        )


def _after_first_start(executable: Path, cache: Path) -> Path:
    """Its data directory after a first start, whose migrations take 20 s of a core; made once, then kept."""
    made_by = (str(executable), str(executable.stat().st_mtime_ns), STARTER.read_text(), PASSWORD, TOKEN)
    kept = cache / hashlib.sha256("\0".join(made_by).encode()).hexdigest()
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests may run in several processes
        if not kept.exists():
            unfinished = cache / "unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            with _started(executable, unfinished):
                pass
            unfinished.rename(kept)
    return kept


@contextmanager
def _started(executable: Path, data_dir: Path, *options: str, **environment: str) -> Iterator[dict[str, str]]:
    """A running one; its account."""
    command = [sys.executable, str(STARTER), "--executable", str(executable), "--data-dir", str(data_dir)]
    command += ["--port", str(free_port()), "--password", PASSWORD, "--token", TOKEN, *options]
    env = os.environ | environment
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, "Label Studio did not start; its last words are above"
            yield json.loads(line)
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def label_studio(real_label_studio: RunningLabelStudio) -> RunningLabelStudio:
    """The same; where a room's tests call their fake by this name, the real one has the other."""
    return real_label_studio
