"""One deadline for a whole fetch: connections, TLS, headers, bodies, redirects and further tries.

A time-out of the HTTP client begins anew with each byte, so that a server that sends one now and then never
meets it. Here the connections that a fetch uses are shut down when its time is over.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util import Retry

_current: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


class DeadlinePassedError(Exception):
    """The time for a fetch is over. No error of the client's, which would try again."""


class Deadline:
    """The end of a fetch's time. It holds for all connections of adapters of this module in its thread."""

    def __init__(self) -> None:
        self.passed = False
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []

    def watch(self, connected: socket.socket) -> None:
        """Shut this connection down when the time is over."""
        # A socket of its own for the same connection: TLS takes the first one apart while it says hello.
        with self._lock:
            self._sockets.append(socket.socket(fileno=os.dup(connected.fileno())))
            if self.passed:
                self._shut_down()

    def expire(self) -> None:
        """End the time."""
        with self._lock:
            self.passed = True
            self._shut_down()

    def close(self) -> None:
        """Watch no more."""
        with self._lock:
            for each in self._sockets:
                each.close()
            self._sockets.clear()

    def _shut_down(self) -> None:
        for each in self._sockets:
            with suppress(OSError):  # the other side was first
                each.shutdown(socket.SHUT_RDWR)


@contextmanager
def deadline(seconds: float) -> Iterator[Deadline]:
    """End what is fetched in this block after so many seconds.

    A connection that was shut down looks as if the other side had hung up: ask `passed` afterwards, also
    where there seems to be an answer.
    """
    ours = Deadline()
    timer = threading.Timer(seconds, ours.expire)
    timer.daemon = True
    timer.start()
    token = _current.set(ours)
    try:
        yield ours
    finally:
        _current.reset(token)
        timer.cancel()
        ours.close()


def _watched(connect: Callable[[], socket.socket]) -> socket.socket:
    ours = _current.get()
    if ours is not None and ours.passed:
        raise DeadlinePassedError
    connected = connect()
    _watch(connected)
    return connected


def _watch(connected: socket.socket | None) -> None:
    ours = _current.get()
    if ours is not None and connected is not None:
        ours.watch(connected)


class WatchedHTTPConnection(HTTPConnection):
    """A connection that the deadline of its fetch ends."""

    def _new_conn(self) -> socket.socket:
        return _watched(super()._new_conn)

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Send a request, perhaps on a connection that an earlier fetch has left."""
        _watch(self.sock)
        super().request(*args, **kwargs)


class WatchedHTTPSConnection(WatchedHTTPConnection, HTTPSConnection):
    """Likewise, with TLS."""


class WatchedAdapter(HTTPAdapter):
    """An adapter of requests whose connections are watched, through a proxy too.

    Args:
        retries: of its requests.
        http: its kind of connection.
        https: its kind of connection with TLS.
    """

    def __init__(
        self,
        retries: Retry,
        http: type[WatchedHTTPConnection] = WatchedHTTPConnection,
        https: type[WatchedHTTPSConnection] = WatchedHTTPSConnection,
    ) -> None:
        self._pools = _pools(http, https)
        super().__init__(max_retries=retries)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools of direct connections."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """Make the pools of connections through a proxy."""
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = self._pools
        return manager


def _pools(
    http: type[WatchedHTTPConnection], https: type[WatchedHTTPSConnection]
) -> Mapping[str, type[HTTPConnectionPool]]:
    class HTTPPool(HTTPConnectionPool):
        ConnectionCls = http

    class HTTPSPool(HTTPSConnectionPool):
        ConnectionCls = https

    return {"http": HTTPPool, "https": HTTPSPool}
