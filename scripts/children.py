"""The programs that the quick start runs: services that stay, and commands that it waits for.

All of them end with it: in order when it ends, and on Linux also when it is killed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import IO

POLL_SECONDS = 0.2
STOP_SECONDS = 30.0
_PR_SET_PDEATHSIG = 1  # Linux, <sys/prctl.h>


class QuickstartError(RuntimeError):
    """The quick start cannot continue; the message says why and what to do."""


@dataclass(frozen=True)
class _Service:
    name: str
    process: Popen[str]
    log: Path


class Children:
    """Starts programs with one environment in one directory; a context manager that stops them all.

    Args:
        directory: where they run.
        environment: theirs.
    """

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self._directory = directory
        self._environment = environment
        self._services: list[_Service] = []

    def start(self, name: str, command: Sequence[str | Path], *, says_ready: bool = False) -> Popen[str]:
        """Start a service; what it says goes to `logs/NAME.log`.

        With `says_ready` its standard output is a pipe instead, for `wait_until_ready`.
        """
        log = self._directory / "logs" / f"{name}.log"
        log.parent.mkdir(exist_ok=True)
        with log.open("a") as file:
            process = self._spawn(command, stdout=subprocess.PIPE if says_ready else file, stderr=file)
        self._services.append(_Service(name, process, log))
        return process

    def wait_until_ready(self, process: Popen[str]) -> None:
        """Wait for the line that a service prints when it is ready. The line is not kept.

        Raises:
            QuickstartError: it ended instead.
        """
        if process.stdout is None or not process.stdout.readline():
            process.wait()
            self.check()

    def run(self, command: Sequence[str | Path]) -> int:
        """Run a command to its end, in sight of the user.

        Returns:
            Its exit status.

        Raises:
            QuickstartError: a service ended meanwhile.
        """
        process = self._spawn(command)
        try:
            while process.poll() is None:
                self.check()
                time.sleep(POLL_SECONDS)
        finally:
            _stop(process, signal.SIGINT)  # a progress bar gives the cursor back
        return process.returncode

    def output(self, command: Sequence[str | Path]) -> str:
        """What a short command prints.

        Raises:
            QuickstartError: it failed.
        """
        process = self._spawn(command, stdout=subprocess.PIPE)
        try:
            printed, _ = process.communicate()
        finally:
            _stop(process, signal.SIGINT)
        if process.returncode != 0:
            raise QuickstartError(f"This failed: {' '.join(map(str, command))}")
        return printed

    def check(self) -> None:
        """See that all services are running.

        Raises:
            QuickstartError: one has ended.
        """
        for service in self._services:
            if service.process.poll() is not None:
                raise QuickstartError(f"{service.name} has ended. {_last_words(service.log)}")

    def __enter__(self) -> Children:
        return self

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not leave half of them behind
        for service in reversed(self._services):
            _stop(service.process, signal.SIGTERM)

    def _spawn(
        self,
        command: Sequence[str | Path],
        stdout: int | IO[str] | None = None,
        stderr: IO[str] | None = None,
    ) -> Popen[str]:
        return Popen(
            list(map(str, command)),
            cwd=self._directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            text=True,
            start_new_session=True,  # Ctrl-C reaches this program alone, which then stops the others in order
            preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509 - this program has one thread
        )


def _die_with(parent: int) -> Callable[[], None]:
    """What a child does before it becomes another program: ask to be ended when its parent ends."""

    def ask() -> None:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)

    return ask


def _stop(process: Popen[str], number: signal.Signals) -> None:
    """Stop a child, and what it started and did not stop itself."""
    if process.poll() is None:
        process.send_signal(number)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-5:]
    return "\n".join([f"The last lines of its log, {log}:", *lines])
