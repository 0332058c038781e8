"""`imil worker`."""

from __future__ import annotations

import os
import signal
import threading
from typing import Annotated

import typer

from imil_backend.cli.helpers.console import command, open_backend, say, settings_of

_WORKER_NICENESS = 10  # on shared cores the web process comes first: a clinician's click waits for it


@command("worker")
def worker(
    context: typer.Context,
    worker_id: Annotated[
        str,
        typer.Option("--id", help="A stable name of this worker, under which it resumes after a restart."),
    ] = "worker",
    dead: Annotated[
        str | None,
        typer.Option(
            "--take-over", metavar="ID", help="Take over from a dead worker that will not come back."
        ),
    ] = None,
) -> None:
    """Run the worker, which reads annotations, trains, compares, promotes, and opens rounds.

    If killed, start it again: it resumes. With SQLite there is one worker; with PostgreSQL
    (IMIL_DATABASE_URL) there may be several, each with its own id.
    """
    from imil_backend.loop.queues.engine import take_over
    from imil_backend.loop.running.worker import running

    os.nice(_WORKER_NICENESS)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with open_backend(context) as backend, running(backend, worker_id):
        if dead is not None:
            say(f"Took over {take_over(backend, dead)} unfinished workflows of worker {dead!r}.")
        say(f"Worker {worker_id!r} is running on {settings_of(context).data_dir}.")
        stop.wait()
        # A training that is under way ends with this process, and goes on from its last epoch.
        os._exit(0)
