"""/webhook under load while a training runs: latencies, and how many events were accepted and lost.

    python -m benchmarks.webhook [--seconds N] [--postgres URL] [--json FILE]

Starts a real `imil serve` and `imil worker` on a data directory of their own, has ResNet-50 trained on
phantoms on all cores, and sends recorded events (every fiftieth with 575 kB) as Label Studio does, each on a
connection of its own: 50 a second at fixed times (open loop: latency counts from the time at which an event
was due), then from 50 senders that wait for each answer (closed loop). A stand-in for Label Studio tells the
worker that it has none of them. The senders run on the same cores. An event is lost if it was answered
with 2xx and no workflow was recorded. `--postgres` names an empty PostgreSQL database, which is measured
after SQLite.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import select

from benchmarks.report import machine, table
from imil_backend.config import SECRET_HEADER, Settings
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.queues.engine import prepare
from imil_backend.loop.queues.workflow_queues import WorkflowQueues
from imil_backend.loop.views.status import status
from imil_backend.store.tables import Dataset, Project

EVENT = Path(__file__).parents[1] / "tests/fixtures/payloads/annotation_created_two_labels_with_eraser.json"
PROJECT = 13
ANNOTATION = 1_987_654_321  # stands for the number of an event
RATE = 50  # events a second, open loop
SENDERS = 50  # closed loop
LARGE_EVERY, LARGE_BYTES = 50, 575_000
IMIL = Path(sys.executable).with_name("imil")


@dataclass
class Sent:
    """What was sent: latencies in seconds, the workflows that were named, and what was not accepted."""

    latencies: list[float] = field(default_factory=list)
    workflow_ids: list[str] = field(default_factory=list)
    refused: int = 0


class Sender:
    """Sends events and keeps what came of them."""

    def __init__(self, port: int, secret: str, project: int = PROJECT) -> None:
        self._port = port
        self._headers = {SECRET_HEADER: secret, "Content-Type": "application/json"}
        self._small, self._large = _bodies(project)
        self._lock = threading.Lock()
        self.sent = Sent()

    def send(self, number: int, due: float) -> None:
        """Send the event of this number; `due` is the time from which its latency counts."""
        body = self._body(number)
        connection = HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request("POST", "/webhook", body, self._headers)
            answer = connection.getresponse()
            workflow_ids = json.loads(answer.read())["jobs"] if answer.status == 200 else []
        except (OSError, HTTPException):
            workflow_ids = []
        finally:
            connection.close()
        with self._lock:
            self.sent.latencies.append(time.monotonic() - due)
            self.sent.workflow_ids += workflow_ids
            self.sent.refused += not workflow_ids

    def _body(self, number: int) -> bytes:
        body = self._small if number % LARGE_EVERY else self._large
        return body.replace(b"%d" % ANNOTATION, b"%d" % (number + 1))


def _bodies(project: int) -> tuple[bytes, bytes]:
    """The recorded event as it is, and a large one; made once, for the senders work on the same cores."""
    event = json.loads(EVENT.read_text(encoding="utf-8"))["json"]
    event = {
        **event,
        "project": {**event["project"], "id": project},
        "annotation": {**event["annotation"], "id": ANNOTATION, "project": project},
    }
    small = json.dumps(event)
    return small.encode(), json.dumps({**event, "padding": "x" * (LARGE_BYTES - len(small))}).encode()


def open_loop(sender: Sender, seconds: float, rate: int = RATE) -> None:
    """Events at fixed times, so many a second, however long their answers take."""
    began = time.monotonic() + 0.5
    with ThreadPoolExecutor(4 * rate) as pool:
        for number in range(int(seconds * rate)):
            due = began + number / rate
            time.sleep(max(0.0, due - time.monotonic()))
            pool.submit(sender.send, number, due)


def closed_loop(sender: Sender, seconds: float) -> None:
    """Senders that each wait for an answer before they send the next event."""
    end = time.monotonic() + seconds

    def keep_sending(first: int) -> None:
        number = first
        while time.monotonic() < end:
            sender.send(number, time.monotonic())
            number += SENDERS

    with ThreadPoolExecutor(SENDERS) as pool:
        list(pool.map(keep_sending, range(SENDERS)))


def measure(url: str | None, seconds: float) -> list[dict[str, Any]]:
    """Both loops on one database; a row each."""
    rows = []
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        backend, environment = installation(directory, url, stack)
        for name, loop in (("open, 50/s", open_loop), ("closed, 50 senders", closed_loop)):
            rows.append(_run(name, loop, backend, environment, seconds))
        _must_be_training(backend)
    return rows


def _run(
    name: str,
    loop: Callable[[Sender, float], None],
    backend: Backend,
    environment: dict[str, str],
    seconds: float,
) -> dict[str, Any]:
    sender = Sender(int(environment["IMIL_PORT"]), backend.webhook_secrets[0])
    loop(sender, seconds)
    queues = WorkflowQueues(backend)
    lost = sum(queues.status(workflow_id) is None for workflow_id in sender.sent.workflow_ids)
    queues.close()
    p50, p99, longest = np.percentile(sender.sent.latencies, [50, 99, 100]) * 1000
    return {
        "database": backend.store.engine.dialect.name,
        "loop": name,
        "events": len(sender.sent.latencies),
        "accepted": len(sender.sent.workflow_ids),
        "refused": sender.sent.refused,
        "lost": lost,
        "p50 ms": float(p50),
        "p99 ms": float(p99),
        "max ms": float(longest),
    }


def installation(
    directory: Path, url: str | None, stack: ExitStack, *, training: bool = True
) -> tuple[Backend, dict[str, str]]:
    """A backend with a project, and its processes, with a training under way if asked for."""
    environment = {
        **os.environ,
        "IMIL_DATA_DIR": str(directory / "data"),
        "IMIL_PORT": str(free_port()),
        "LABEL_STUDIO_URL": stack.enter_context(_nothing_there()),
        "LABEL_STUDIO_API_KEY": "benchmark",
        **({"IMIL_DATABASE_URL": url} if url else {}),
    }
    for command in (
        ("phantoms", str(directory / "phantoms"), "--count", "600" if training else "40", "--size", "224"),
        ("import", str(directory / "phantoms"), "--name", "phantoms"),
    ):
        subprocess.run([IMIL, *command], env=environment, check=True, stdout=subprocess.DEVNULL)
    settings = Settings(
        _env_file=None,
        data_dir=Path(environment["IMIL_DATA_DIR"]),
        database_url=url,
        label_studio_url=environment["LABEL_STUDIO_URL"],
    )
    backend = Backend(settings)
    stack.callback(backend.close)
    prepare(backend)
    with backend.store.begin() as session:
        dataset = session.scalars(select(Dataset)).one()
        session.add(
            Project(dataset_id=dataset.id, instance=settings.label_studio_url, label_studio_id=PROJECT)
        )
    log = stack.enter_context((directory / "log").open("wb"))
    commands = [("serve",), ("worker",), ("train", "--from-scratch", "--epochs", "500")]
    for command in commands if training else commands[:1]:
        process = subprocess.Popen([IMIL, *command], env=environment, stdout=log, stderr=log)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        time.sleep(3)  # they must listen; the worker must be there before the training is asked for
    if training:
        _await_training(backend)
    return backend, environment


def _await_training(backend: Backend) -> None:
    deadline = time.monotonic() + 300
    while _phase(backend) != "training":
        if time.monotonic() > deadline:
            raise RuntimeError("The training did not begin within five minutes.")
        time.sleep(1)


def _must_be_training(backend: Backend) -> None:
    if (phase := _phase(backend)) not in {"training", "evaluating", "mining"}:
        raise RuntimeError(f"The training has ended ({phase}); the figures are not those of a busy machine.")


def _phase(backend: Backend) -> str | None:
    round_ = status(backend)["datasets"][0]["round"]
    progress = round_ and round_["training"]
    return progress["phase"] if progress else None


@contextmanager
def _nothing_there() -> Iterator[str]:
    """A stand-in for Label Studio that knows of nothing."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b'{"detail": "Not found."}')

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=20, help="of each loop")
    parser.add_argument("--postgres", help="an empty PostgreSQL database, as an SQLAlchemy URL")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    before = machine()
    rows = [
        row
        for url in [None, *([arguments.postgres] if arguments.postgres else [])]
        for row in measure(url, arguments.seconds)
    ]
    print(f"{before}\n\n{table(rows)}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": before, "rows": rows}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
