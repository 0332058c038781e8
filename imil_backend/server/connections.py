"""The connections of a web process: deadlines for what others send, and how many may keep us waiting.

A connection waits for its sender until a request is there whole. Senders that cannot or will not go on are
cut off at a deadline, and before it where there are too many of them: the oldest first, so that whoever comes
and sends at once is always taken.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections import OrderedDict
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

# From the connection, or the answer before, to the end of the headers; and from there to the end of the body.
# Label Studio itself waits for 1 s after an event and for 100 s for a prediction.
HEAD_SECONDS = 10.0
BODY_SECONDS = 30.0
# And from there to the end of the answer, which its receiver must take.
ANSWER_SECONDS = 120.0
# Connections that wait: of one address, and of all.
PER_ADDRESS = 100
AT_ONCE = 800
# Whoever sends at once is not cut off for the sake of PER_ADDRESS, however many come at the same moment: the
# address may be a proxy's.
GRACE_SECONDS = 1.0
# For what else a process has open: databases, images, the log.
OTHER_FILES = 200


class Waiting:
    """The connections that wait for their senders, the oldest first.

    Args:
        per_address: how many of one address may wait.
        at_once: how many may wait in all.
    """

    def __init__(self, per_address: int = PER_ADDRESS, at_once: int = AT_ONCE) -> None:
        self._per_address = per_address
        self._at_once = at_once
        self._since: OrderedDict[Connection, float] = OrderedDict()
        self._by_address: dict[str, OrderedDict[Connection, None]] = {}

    def add(self, connection: Connection) -> None:
        """Note that a connection waits; the oldest is cut off where there are too many."""
        self.remove(connection)
        self._since[connection] = time.monotonic()
        same = self._by_address.setdefault(connection.address, OrderedDict())
        same[connection] = None
        if len(self._since) > self._at_once:
            self._cut_off(next(iter(self._since)))
        while len(same) > self._per_address and self._age(oldest := next(iter(same))) >= GRACE_SECONDS:
            self._cut_off(oldest)

    def remove(self, connection: Connection) -> None:
        """Note that a connection waits no more."""
        if self._since.pop(connection, None) is None:
            return
        same = self._by_address[connection.address]
        del same[connection]
        if not same:
            del self._by_address[connection.address]

    def __len__(self) -> int:
        return len(self._since)

    def _age(self, connection: Connection) -> float:
        return time.monotonic() - self._since[connection]

    def _cut_off(self, connection: Connection) -> None:
        self.remove(connection)
        connection.transport.abort()


class Connection(H11Protocol):
    """A connection that its sender cannot keep open by sending slowly."""

    waiting: ClassVar[Waiting] = Waiting()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.address = ""
        self._state: Any = None
        self._deadline: asyncio.TimerHandle | None = None
        self.app_state = {**self.app_state, "connection": self}  # handed to the application

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        self._look()

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request, or for the rest of one that was answered before its end."""
        self._state = None
        super().on_response_complete()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._wait_no_more()
        super().connection_lost(exc)

    def is_trusted(self) -> None:
        """Cut off this request, whose credentials are good, at its deadline only."""
        self.waiting.remove(self)

    def _look(self) -> None:
        """Wait for a head, for a body, or for the answer, as the request stands."""
        state = self.conn.their_state
        if state is self._state or self.transport.is_closing():
            return
        self._state = state
        self._wait_no_more()
        seconds = {h11.IDLE: HEAD_SECONDS, h11.SEND_BODY: BODY_SECONDS}.get(state, ANSWER_SECONDS)
        self._deadline = self.loop.call_later(seconds, self.transport.abort)
        if state in (h11.IDLE, h11.SEND_BODY):
            self.waiting.add(self)

    def _wait_no_more(self) -> None:
        self.waiting.remove(self)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def make_room_for_connections() -> None:
    """Let this process open as many files as connections may wait, or wait for fewer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = AT_ONCE + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        Connection.waiting = Waiting(at_once=max(1, soft - OTHER_FILES))
