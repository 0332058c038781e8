"""Events for many minutes: latencies, what the processes hold, and what is left in the database.

    python -m benchmarks steady [--minutes N] [--rate N] [--json FILE]

Starts a real `imil serve` and `imil worker` on SQLite, and sends recorded events as Label Studio does (every
fiftieth with 575 kB), 50 a second unless `--rate` says otherwise. Each is of another annotation, which the
worker reads from a stand-in for Label Studio, that of `scale`, and stores; reconciliation runs every five
minutes. Senders, stand-in and backend share the cores. `behind` is how many events waited for the worker when
the last one was sent, and `left` how many after five minutes more, if they were not enough. Then the records
of workflows are removed, as they are a week later; bytes are of pages in use.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import subprocess
import tempfile
import time
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.report import machine, table
from benchmarks.scale import PROJECT, fill, stand_in
from benchmarks.webhook import IMIL, RATE, Sender, Sent, free_port, open_loop
from imil_backend.config import Settings
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.queues.ended import remove_ended_workflows
from imil_backend.loop.queues.engine import DBOS_SQLITE_FILE
from imil_backend.store.database import SQLITE_FILE

PATIENCE = 300  # seconds


def measure(minutes: float, rate: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A row of what came of the events, and a row of each process."""
    seconds = 60 * minutes
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(stand_in(int(seconds * rate)))
        fill(str(directory), url, int(seconds * rate))
        backend, port, processes = _start(directory, url, stack)
        sender = Sender(port, backend.webhook_secrets[0], PROJECT)
        open_loop(sender, 20, rate)  # what is loaded at first is no growth
        sender.sent = Sent()
        _wait_for_the_worker(backend)
        before, used, worked = _memory(processes), _used(backend), _worked(processes)
        open_loop(sender, seconds, rate)
        behind = _unfinished(backend)
        began = time.monotonic()
        left = _wait_for_the_worker(backend)
        caught_up = time.monotonic() - began
        after, full, worked_then = _memory(processes), _used(backend), _worked(processes)
        remove_ended_workflows(backend, timedelta(0))
        cleaned = _used(backend)
    events = len(sender.sent.latencies)
    p50, p99, longest = np.percentile(sender.sent.latencies, [50, 99, 100]) * 1000
    row = {
        "events": events,
        "refused": sender.sent.refused,
        "p50 ms": float(p50),
        "p99 ms": float(p99),
        "max ms": float(longest),
        "behind": behind,
        "caught up s": caught_up,
        "left": left,
        "bytes an event": (full - used) / events,
        "after the cleaning": (cleaned - used) / events,
    }
    rows = [
        {
            "process": name,
            "MB before": before[name],
            "MB after": after[name],
            "CPU s": worked_then[name] - worked[name],
        }
        for name in processes
    ]
    return [row], rows


def _start(directory: Path, url: str, stack: ExitStack) -> tuple[Backend, int, dict[str, psutil.Process]]:
    """The web process and the worker on what was filled in, and the port of the former."""
    data, port = directory / "data", free_port()
    environment = {
        **os.environ,
        "IMIL_DATA_DIR": str(data),
        "IMIL_PORT": str(port),
        "LABEL_STUDIO_URL": url,
        "LABEL_STUDIO_API_KEY": "benchmark",
        "IMIL_DEVICE": "cpu",
    }
    backend = Backend(Settings(_env_file=None, data_dir=data, label_studio_url=url))
    stack.callback(backend.close)
    log = stack.enter_context((directory / "log").open("wb"))
    started = []
    for command in ("serve", "worker"):
        process = subprocess.Popen([IMIL, command], env=environment, stdout=log, stderr=log)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        started.append(psutil.Process(process.pid))
    serving, worker = started
    while not (web := serving.children()):
        time.sleep(1)
    processes = {"serve, parent": serving, "worker": worker}
    return backend, port, processes | {f"web process {place}": each for place, each in enumerate(web, 1)}


def _wait_for_the_worker(backend: Backend) -> int:
    """How many workflows are left when it has caught up, or after five minutes."""
    deadline = time.monotonic() + PATIENCE
    while (left := _unfinished(backend)) and time.monotonic() < deadline:
        time.sleep(1)
    return left


def _unfinished(backend: Backend) -> int:
    """Workflows that wait or are under way."""
    with closing(sqlite3.connect(backend.path(DBOS_SQLITE_FILE))) as connection:
        query = "SELECT count(*) FROM workflow_status WHERE status IN ('ENQUEUED', 'PENDING')"
        return int(connection.execute(query).fetchone()[0])


def _used(backend: Backend) -> int:
    """Bytes of all pages in use, in both databases."""
    used = 0
    for name in (SQLITE_FILE, DBOS_SQLITE_FILE):
        with closing(sqlite3.connect(backend.path(name))) as connection:
            pages, free, size = (
                int(connection.execute(f"PRAGMA {what}").fetchone()[0])
                for what in ("page_count", "freelist_count", "page_size")
            )
            used += (pages - free) * size
    return used


def _memory(processes: dict[str, psutil.Process]) -> dict[str, float]:
    return {name: process.memory_info().rss / 2**20 for name, process in processes.items()}


def _worked(processes: dict[str, psutil.Process]) -> dict[str, float]:
    """Seconds on the CPU."""
    return {name: sum(process.cpu_times()[:2]) for name, process in processes.items()}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rate", type=int, default=RATE, help="events a second")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    before = machine()
    events, memory = measure(arguments.minutes, arguments.rate)
    print(f"{before}\n\n{table(events)}\n\n{table(memory)}")
    if arguments.json:
        figures = {"machine": before, "events": events, "memory": memory}
        arguments.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
