"""The small port of a worker: /health and /metrics, protected like those of the web process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from flask import Flask, request
from prometheus_client import CollectorRegistry

from imil_backend.config import Settings
from imil_backend.errors import SettingsError
from imil_backend.server.auth import METRICS, MetricsAccess, OwnNames
from imil_backend.server.monitoring.metrics import metrics

_SENDER_SECONDS = 10.0  # that a request may take to arrive


@contextmanager
def worker_port(settings: Settings, registry: CollectorRegistry) -> Iterator[int | None]:
    """Answer on IMIL_WORKER_PORT until the context ends; gives the port, or None if none is set.

    Raises:
        SettingsError: the port is taken, or user and password are missing.
    """
    if settings.worker_port is None:
        yield None
        return
    server = _listen(settings.host, settings.worker_port)
    server.set_app(_application(settings, registry))
    threading.Thread(target=server.serve_forever, name="worker port", daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def _application(settings: Settings, registry: CollectorRegistry) -> Flask:
    app = Flask("imil_backend.server.monitoring", static_folder=None)
    app.register_blueprint(metrics(registry))
    access, own_names = MetricsAccess.from_settings(settings), OwnNames.from_settings(settings)

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "UP"}

    @app.before_request
    def authenticate() -> None:
        if not access.asks:  # else a name that leads here helps no page in a browser
            own_names.check(request)
        if request.path == METRICS:
            access.check(request)

    return app


def _listen(host: str, port: int) -> _Server:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return (_Server6 if family == socket.AF_INET6 else _Server)(address[:2], _Handler)  # type: ignore[arg-type]
    except OSError as error:
        raise SettingsError(
            f"The worker cannot listen on port {port} of {host} ({error.strerror}): set IMIL_WORKER_PORT to "
            "a free port, or leave it empty."
        ) from error


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = _SENDER_SECONDS

    def log_message(self, format: str, *args: object) -> None:
        """Log no scrape."""
