"""`imil worker`."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Annotated

import typer

from imil_backend.cli.helpers.console import announce, command, open_backend, say, settings_of
from imil_backend.errors import SettingsError

_WORKER_NICENESS = 10  # on shared cores the web process comes first: a clinician's click waits for it
_SECONDS_BETWEEN_LOOKS = 1.0


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
    drained: Annotated[
        bool,
        typer.Option(
            "--drain",
            help="Start none: have the running worker of this id take no more work, and wait until it has "
            "finished what is under way and ended.",
        ),
    ] = False,
) -> None:
    """Run the worker, which reads annotations, trains, compares, promotes, and opens rounds.

    If killed, start it again: it resumes. With SQLite there is one worker; with PostgreSQL
    (IMIL_DATABASE_URL) there may be several, each with its own id.
    """
    if not drained:
        _work(context, worker_id, dead)
    elif dead is None:
        _drain(context, worker_id)
    else:
        raise SettingsError("--drain starts no worker that could --take-over. Omit one of them.")


def _work(context: typer.Context, worker_id: str, dead: str | None) -> None:
    from imil_backend.loop.queues.draining import drain_is_wanted, forget_drain
    from imil_backend.loop.queues.launching import take_over
    from imil_backend.loop.running import counters
    from imil_backend.loop.running.worker import running
    from imil_backend.server.monitoring.worker_port import worker_port

    os.nice(_WORKER_NICENESS)
    stop = threading.Event()
    _on_stop(stop.set)
    with (
        open_backend(context) as backend,
        worker_port(backend.settings, counters.WORKER),
        running(backend, worker_id),
    ):
        forget_drain(backend, worker_id)
        if dead is not None:
            announce(f"Took over {take_over(backend, dead)} unfinished workflows of worker {dead!r}.")
        announce(f"Worker {worker_id!r} is running on {settings_of(context).data_dir}.")
        while not (stopped := stop.wait(_SECONDS_BETWEEN_LOOKS)):
            if drain_is_wanted(backend, worker_id):
                break
        if stopped:
            # A training that is under way ends with this process, and goes on from its last epoch.
            os._exit(0)
        announce(f"Worker {worker_id!r} takes no more work, and ends when what is under way is done.")
        _on_stop(lambda: os._exit(0))


def _on_stop(act: Callable[[], None]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: act())


def _drain(context: typer.Context, worker_id: str) -> None:
    from imil_backend.loop.queues.draining import drain

    with open_backend(context) as backend:
        ended = drain(backend, worker_id)
    say(f"Worker {worker_id!r} {'has ended' if ended else 'is not running'}.")
