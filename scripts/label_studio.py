#!/usr/bin/env python3
"""Start a local Label Studio: known user, known token, no phone-home, no prompts.

For the quick start and the tests. It listens on 127.0.0.1 only and ends with this program, which ends with
the one that started it:

    scripts/label_studio.py --data-dir DIRECTORY --port 8080 --password PASSWORD --token TOKEN

It needs nothing but Python and prints one line of JSON with url, username, password and token when Label
Studio answers. User, password and token count when the data directory is new; later starts keep them.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path

START_SECONDS = 300.0  # the first start runs all migrations: 45 s on two idle cores
STOP_SECONDS = 10.0


class LabelStudioStartError(RuntimeError):
    """Label Studio did not come up; the message ends with its last log lines."""


@dataclass(frozen=True)
class Account:
    """Who can log in, and where."""

    url: str
    username: str
    password: str
    token: str


def free_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(data_dir: Path, account: Account, local_files: Path | None) -> dict[str, str]:
    """The environment of a Label Studio that is local, private and ready to use."""
    own = {
        "LABEL_STUDIO_BASE_DATA_DIR": str(data_dir),
        "XDG_CONFIG_HOME": str(data_dir / ".config"),
        "XDG_DATA_HOME": str(data_dir / ".data"),
        "XDG_CACHE_HOME": str(data_dir / ".cache"),
        "LABEL_STUDIO_HOST": account.url,
        "LABEL_STUDIO_USERNAME": account.username,
        "LABEL_STUDIO_PASSWORD": account.password,
        "LABEL_STUDIO_USER_TOKEN": account.token,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        # No request leaves the machine. An unset SENTRY_DSN would mean Label Studio's own.
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        "LATEST_VERSION_CHECK": "false",
        "COLLECT_ANALYTICS": "false",
        # The backend lives at 127.0.0.1, which Label Studio refuses by default.
        "SSRF_PROTECTION_ENABLED": "false",
        "ML_BLOCK_LOCAL_IP": "false",
    }
    if local_files is not None:
        own["LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED"] = "true"
        own["LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT"] = str(local_files.absolute())
    foreign = ("LABEL_STUDIO_", "HEARTEX_", "DJANGO_", "POSTGRE_")
    return {key: value for key, value in os.environ.items() if not key.startswith(foreign)} | own


class LocalLabelStudio:
    """A Label Studio child process; a context manager that stops it with all its children.

    Args:
        executable: path of `label-studio`.
        data_dir: where it keeps its database and uploads; made if it is not there.
        account: user, password and token to create; `account.url` is where it will listen.
        local_files: folder from which projects with a Local storage may show images.
    """

    def __init__(
        self, executable: Path, data_dir: Path, account: Account, local_files: Path | None = None
    ) -> None:
        self.executable = executable.absolute()
        self.data_dir = data_dir.absolute()
        self.account = account
        self.local_files = local_files
        self.log = self.data_dir / "label-studio.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            LabelStudioStartError: the port is taken, it ended, or it did not answer in time.
        """
        port = self._port()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                # Label Studio itself would silently take the next port.
                raise LabelStudioStartError(f"Port {port} is in use; choose another one.")
        self.data_dir.mkdir(parents=True, exist_ok=True)
        command = [str(self.executable), "start", "--no-browser", "--internal-host", "127.0.0.1"]
        command += ["--port", str(port), "--log-level", "INFO"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.data_dir,
                env=environment(self.data_dir, self.account, self.local_files),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_healthy()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it and everything that it started."""
        process, self._process = self._process, None
        if process is None:
            return
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, signal_number)
                process.wait(STOP_SECONDS)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue

    def poll(self) -> int | None:
        """The exit status, or None while it runs."""
        return self._process.poll() if self._process else 0

    def __enter__(self) -> LocalLabelStudio:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _port(self) -> int:
        return int(self.account.url.rsplit(":", 1)[1])

    def _wait_until_healthy(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.poll() is not None:
                raise LabelStudioStartError(f"Label Studio ended while starting.\n{self._last_log_lines()}")
            try:
                with urllib.request.urlopen(f"{self.account.url}/health", timeout=5) as answer:
                    if answer.status == 200:
                        return
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.25)
        raise LabelStudioStartError(
            f"Label Studio did not answer within {START_SECONDS:.0f} s.\n{self._last_log_lines()}"
        )

    def _last_log_lines(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(line for line in lines[-20:] if self.account.token not in line)


def main() -> int:
    """Run Label Studio until it ends, or until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--executable", type=Path, default=Path(".venv-label-studio/bin/label-studio"))
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--username", default="admin@example.com")
    for name, variable in (("password", "LABEL_STUDIO_PASSWORD"), ("token", "LABEL_STUDIO_API_KEY")):
        kept = os.environ.get(variable)  # which other users cannot read, unlike a command line
        parser.add_argument(f"--{name}", default=kept, required=kept is None, help=f"else {variable}")
    parser.add_argument("--local-files", type=Path, help="folder that projects may show images from")
    args = parser.parse_args()
    account = Account(f"http://127.0.0.1:{args.port}", args.username, args.password, args.token)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    parent = os.getppid()
    try:
        with LocalLabelStudio(args.executable, args.data_dir, account, args.local_files) as server:
            print(json.dumps(asdict(account)), flush=True)
            while (status := server.poll()) is None and os.getppid() == parent:
                time.sleep(0.25)
            return status or 0
    except LabelStudioStartError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
