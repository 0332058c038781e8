"""The quick start as a newcomer runs it: few images, the real Label Studio, real training."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from PIL import Image
from support.label_studio import ROOT, free_port
from support.xrays import COLUMNS
from support.xrays import SETTING as XRAYS

IMIL = Path(sys.executable).with_name("imil")
SMALL = ("--image-size", "32", "--epochs", "2", "--from-scratch")
PHANTOMS = ("--count", "120")
READY = "Press Ctrl-C"


def command(directory: Path, *options: str) -> list[str]:
    ports = ("--port", str(free_port()), "--label-studio-port", str(free_port()))
    place = ("--directory", str(directory))
    return [sys.executable, str(ROOT / "scripts" / "quickstart.py"), *place, *ports, *SMALL, *options]


def run(words: list[str]) -> subprocess.CompletedProcess[str]:
    wide = {**os.environ, "COLUMNS": "120"}  # room for tables
    return subprocess.run(words, env=wide, capture_output=True, text=True, timeout=800, check=False)


@contextmanager
def running(words: list[str], log: Path) -> Iterator[subprocess.Popen[str]]:
    """The quick start when it waits for Ctrl-C; `log` holds what it says."""
    with log.open("w") as file:
        process = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, text=True)
    try:
        while READY not in log.read_text():
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
        yield process
    finally:
        process.terminate()
        process.wait(60)


def state(directory: Path) -> dict[str, object]:
    printed = subprocess.run(
        [IMIL, "status", "--json"], cwd=directory, env=clean(), capture_output=True, check=True
    ).stdout
    return json.loads(printed)["datasets"][0]  # type: ignore[no-any-return]


def versions(directory: Path) -> list[str]:
    words = [IMIL, "models", "--json"]
    printed = subprocess.run(words, cwd=directory, env=clean(), capture_output=True, check=True).stdout
    return [version["name"] for version in json.loads(printed)]


def clean() -> dict[str, str]:
    """An environment in which `imil` has its settings from the directory's .env alone."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("IMIL_", "LABEL_STUDIO_"))
    }


def secrets_of(directory: Path) -> list[str]:
    kept = dict(line.split("=", 1) for line in (directory / ".env").read_text().splitlines())
    return [kept["LABEL_STUDIO_API_KEY"], kept["LABEL_STUDIO_PASSWORD"]]


@pytest.fixture(scope="module")
def films(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Options for 120 chest X-rays, or for as many phantoms where there are none."""
    if XRAYS not in os.environ:
        return PHANTOMS
    data = str(request.getfixturevalue("xray_zip"))
    return ("--data", data, "--name", "xrays", "--limit", "120", *COLUMNS)


@pytest.fixture(scope="module")
def simulated(
    tmp_path_factory: pytest.TempPathFactory, films: tuple[str, ...]
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A directory in which a simulated round has closed, and what the command said."""
    directory = tmp_path_factory.mktemp("quickstart") / "data"
    return directory, run(command(directory, "--simulate", *films))


@pytest.mark.parametrize("script", ["quickstart", "test", "../.ci/run"])
def test_the_scripts_parse(script: str) -> None:
    assert run(["bash", "-n", str(ROOT / "scripts" / script)]).stderr == ""


@pytest.mark.slow
def test_help_needs_no_environment() -> None:
    done = run([str(ROOT / "scripts" / "quickstart"), "--help"])
    assert done.returncode == 0
    assert "--simulate" in done.stdout


@pytest.mark.slow
def test_a_simulation_without_masks_is_refused_before_anything_starts(tmp_path: Path) -> None:
    done = run(command(tmp_path / "data", "--simulate", "--data", str(tmp_path)))
    assert done.returncode == 2
    assert "--mask" in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.slow
def test_a_port_that_is_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = run([*command(tmp_path / "data"), "--port", port])
    assert done.returncode == 1
    assert f"Port {port} is in use" in done.stderr


class TestRealRound:
    pytestmark = [pytest.mark.label_studio, pytest.mark.training, pytest.mark.timeout(900)]  # noqa: RUF012

    def test_a_simulated_round_closes_by_itself(
        self, simulated: tuple[Path, subprocess.CompletedProcess[str]]
    ):
        directory, done = simulated
        assert done.returncode == 0, done.stdout + done.stderr
        assert re.search(r"accuracy.*balanced accuracy.*AUC", done.stdout)
        assert re.search(r"^(Promoted|Not promoted)", done.stdout, re.MULTILINE)
        now = state(directory)
        assert now["last_closed"]["number"] == 1  # type: ignore[index]
        assert sum(sum(split.values()) for split in now["samples"].values()) == 120  # type: ignore[attr-defined]
        assert len(versions(directory)) == 2

    def test_it_says_where_pictures_before_and_after_a_blackout_are(
        self, simulated: tuple[Path, subprocess.CompletedProcess[str]]
    ):
        pictures = re.findall(r"^(/.*before-after-\d+\.png)$", simulated[1].stdout, re.MULTILINE)
        assert pictures
        for picture in pictures:
            with Image.open(picture) as image:
                assert image.width > image.height

    def test_it_keeps_its_secrets(self, simulated: tuple[Path, subprocess.CompletedProcess[str]]):
        directory, done = simulated
        assert stat.S_IMODE((directory / ".env").stat().st_mode) == 0o600
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        said = done.stdout + done.stderr
        said += "".join(log.read_text() for log in directory.glob("**/*.log"))
        assert not [secret for secret in secrets_of(directory) if secret in said]

    def test_started_again_it_goes_on_and_ctrl_c_stops_everything(
        self,
        simulated: tuple[Path, subprocess.CompletedProcess[str]],
        films: tuple[str, ...],
        tmp_path: Path,
    ):
        directory, _ = simulated
        before, trained = state(directory), versions(directory)
        with running(command(directory, *films), tmp_path / "log") as process:
            children = psutil.Process(process.pid).children(recursive=True)
            assert run(command(directory, *films)).stderr.startswith(
                "\nError: Another quick start is running"
            )
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        _, alive = psutil.wait_procs(children, timeout=5)
        assert len(children) > 3
        assert not alive
        after = state(directory)
        assert versions(directory) == trained
        assert (after["samples"], after["project"]) == (before["samples"], before["project"])
        assert secrets_of(directory)[1] in (tmp_path / "log").read_text()

    def test_on_phantoms_it_draws_trains_and_asks_and_killed_it_leaves_no_process_behind(
        self, tmp_path: Path
    ):
        directory = tmp_path / "data"
        with running(command(directory, *PHANTOMS), tmp_path / "log") as process:
            children = psutil.Process(process.pid).children(recursive=True)
            process.kill()
        _, alive = psutil.wait_procs(children, timeout=30)
        assert not alive
        now = state(directory)
        assert now["samples"] == {
            split: {"lesion": count, "normal": count}
            for split, count in {"train": 42, "validation": 9, "test": 9}.items()
        }
        assert now["round"]["state"] == "open"  # type: ignore[index]
        assert len(versions(directory)) == 1
