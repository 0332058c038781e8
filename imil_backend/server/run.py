"""Serving the application with gunicorn, in this process."""

from __future__ import annotations

import errno
import gc
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]
from gunicorn.errors import AppImportError  # type: ignore[import-untyped]
from gunicorn.glogging import Logger  # type: ignore[import-untyped]
from uvicorn_worker import UvicornWorker  # type: ignore[import-untyped]

from imil_backend.config import Settings
from imil_backend.errors import ImilError, SettingsError
from imil_backend.json_logs import JsonLines
from imil_backend.logs import OneLine
from imil_backend.server.app import GATE, create_app
from imil_backend.server.auth import BasicAuth
from imil_backend.server.connections import Connection, make_room_for_connections
from imil_backend.server.edge import Edge, access
from imil_backend.server.monitoring.folder import multiprocess_folder

BACKLOG = 2048
SHUTDOWN_SECONDS = 25  # gunicorn kills after 30


def serve(settings: Settings) -> NoReturn:
    """Serve until the process is told to stop (SIGINT, SIGTERM), and end it when requests are answered.

    Raises:
        SettingsError: the address is taken or is not this machine's, or user and password are missing.
    """
    BasicAuth.from_settings(settings)
    server = _Server(settings, _listen(settings.host, settings.port))
    try:
        with multiprocess_folder():
            server.run()
    except SystemExit as end:  # of the parent, and of each web process
        _leave(end.code)
    _leave(0)


def _leave(status: object) -> NoReturn:
    """End the process as it is.

    Python would take apart all that was imported, for seconds on a busy machine, and would wait for threads
    that load a network. Nothing of it is needed: what must be kept was committed before it was answered.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else status is not None)


def _listen(host: str, port: int) -> socket.socket:
    """Bind and listen here: gunicorn tries again for five seconds and then says less."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise SettingsError(f"IMIL_HOST={host} is not an address to listen on: {error.strerror}.") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise SettingsError(_why_not(host, port, error)) from error
    return listener


def _why_not(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} of {host} is in use, perhaps by another `imil serve`: stop that one, or set "
            "IMIL_PORT to a free port."
        )
    return f"Cannot listen on port {port} of {host} ({error.strerror}): set IMIL_HOST and IMIL_PORT."


class _Server(BaseApplication):  # type: ignore[misc]
    """gunicorn with our settings; nothing is read from its own configuration files or variables."""

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._settings = settings
        self._bind = f"fd://{listener.detach()}"
        super().__init__()

    def load_config(self) -> None:
        options = {
            "bind": self._bind,
            "workers": self._settings.web_processes,
            "worker_class": f"{__name__}.Worker",
            "logger_class": _JsonLog if self._settings.log_format == "json" else _Log,
            # Each worker opens the store, and later the network, after the fork.
            "preload_app": False,
            # A heartbeat kept on a disk that a training writes to can come too late.
            "worker_tmp_dir": "/dev/shm" if Path("/dev/shm").is_dir() else None,  # noqa: S108
            "control_socket_disable": True,
        }
        for name, value in options.items():
            if name in self.cfg.settings:  # the control socket came with gunicorn 25.1
                self.cfg.set(name, value)

    def load(self) -> Edge:
        try:
            app = create_app(self._settings)
        except ImilError as error:
            # gunicorn prints this one without a traceback, and ends.
            raise AppImportError(str(error)) from error
        # The collector stops all threads, in the middle of an answer. What was imported stays, so it need
        # not be walked through; and a request leaves few cycles, so rarely is often enough.
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        make_room_for_connections()
        _log_requests(JsonLines() if self._settings.log_format == "json" else OneLine())
        return Edge(app, app.extensions[GATE], self._settings.max_body_bytes)


class Worker(UvicornWorker):  # type: ignore[misc]
    """A web process: uvicorn's loop, with our connections."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        "loop": "asyncio",
        "http": Connection,
        "ws": "none",
        "lifespan": "off",
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,  # the sender is whoever is connected
        "timeout_graceful_shutdown": SHUTDOWN_SECONDS,
        "timeout_notify": 1,
    }

    async def callback_notify(self) -> None:
        """Tell the parent each second that this process lives; end where the parent was killed."""
        if os.getppid() != self.ppid:
            os.kill(os.getpid(), signal.SIGTERM)
        await super().callback_notify()


class _Log(Logger):  # type: ignore[misc]
    """gunicorn's log, in the form of ours."""

    form: ClassVar[type[logging.Formatter]] = OneLine

    def setup(self, cfg: object) -> None:
        """Set its handlers up."""
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(self.form())


class _JsonLog(_Log):
    form = JsonLines


def _log_requests(form: logging.Formatter) -> None:
    """Log a line for each answer; none for what is no HTTP, of which anybody could send very much."""
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(form)
    access.handlers = [handler]
    access.setLevel(logging.INFO)
    access.propagate = False
