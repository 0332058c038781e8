"""Between the web server and Flask: who may send a body, and which threads answer.

Heads and bodies are received in the server's loop, where a slow sender holds no thread. Credentials are
checked when the head is there; without them no body is read. A thread takes a request only when it is there
whole.
"""

from __future__ import annotations

import asyncio
import io
import logging
import secrets
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

from flask import Flask, Request
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from imil_backend.server.app import TOO_MUCH
from imil_backend.server.auth import Caller, Gate, is_open
from imil_backend.server.ml_api import MOST_PREDICTIONS
from imil_backend.server.monitoring.endpoints import ARRIVED, REQUEST_ID

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# Busy threads take the interpreter from one another: beside a training, 50 senders of events on PostgreSQL
# had a p99 of 600 ms with 32 threads, 340 with 16 and 230 with 8 (benchmarks/webhook.py).
EVENT_THREADS = 4
OTHER_THREADS = MOST_PREDICTIONS + 2
# Of all bodies that are being received or answered, in bytes.
MOST_BODIES = 256 * 2**20

access = logging.getLogger("imil_backend.access")


class Edge:
    """The ASGI application around a Flask application.

    Args:
        app: what answers.
        gate: who may call.
        max_body_bytes: the longest body; of longer ones one byte more is read.
    """

    def __init__(self, app: Flask, gate: Gate, max_body_bytes: int) -> None:
        self._app = app
        self._gate = gate
        self._max_body_bytes = max_body_bytes
        self._bodies = 0
        # Nothing else can hold the threads of events.
        self._for_events = ThreadPoolExecutor(EVENT_THREADS, "event")
        self._for_others = ThreadPoolExecutor(OTHER_THREADS, "other")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        began = time.monotonic()
        scope["request_id"] = secrets.token_hex(4)
        response = await self._response(scope, receive)
        if response is None:
            return
        await _send(response, send)
        sender = scope["client"][0] if scope["client"] else "-"
        took = time.monotonic() - began
        # No query, no header, no body.
        fields = {
            "request": scope["request_id"],
            "method": scope["method"],
            "path": scope["path"],
            "status": response.status_code,
            "duration": round(took, 4),
        }
        called = f'"{scope["method"]} {scope["path"]}"'
        values = (sender, called, response.status_code, len(response.data), 1000 * took)
        access.info("%s %s %d %d %.0fms", *values, extra=fields)

    async def _response(self, scope: Message, receive: Receive) -> Response | None:
        """The answer, or None where nobody waits for one."""
        environ = _environ(scope)
        request = Request(environ)
        try:
            caller = self._gate.check(request)
        except HTTPException:
            return self._answer(environ, b"")  # Flask refuses it as well, and says why
        if caller is not Caller.ANYONE:
            scope["state"]["connection"].is_trusted()
        is_event = caller is Caller.WEBHOOK
        pool = self._for_events if is_event else self._for_others
        declared = request.content_length or 0
        if declared > self._max_body_bytes:
            return await self._in_thread(pool, environ, b"", declared)
        if is_open(request.path):  # of anyone no body is read
            return await self._in_thread(pool, environ, b"")
        body = bytearray()
        try:
            is_whole = await self._receive(body, receive, anyway=is_event)
            if not is_whole and not is_event:
                return None
            sent = bytes(body) if is_whole else b""  # of an event, that there was one is enough
            return await self._in_thread(pool, environ, sent)
        except _TooMuchError:
            environ[TOO_MUCH] = True
            return self._answer(environ, b"")  # as above
        finally:
            self._bodies -= len(body)

    async def _receive(self, body: bytearray, receive: Receive, *, anyway: bool) -> bool:
        """Receive a body, up to one byte more than is taken; whether its sender has stayed to its end.

        Raises:
            _TooMuchError: all bodies together are too much, and it is not to be taken anyway.
        """
        more = True
        while more and len(body) <= self._max_body_bytes:
            message = await receive()
            if message["type"] == "http.disconnect":
                return False
            body += message["body"]
            self._bodies += len(message["body"])
            if self._bodies > MOST_BODIES and not anyway:
                raise _TooMuchError
            more = message["more_body"]
        return True

    async def _in_thread(
        self, pool: Executor, environ: dict[str, Any], body: bytes, declared: int | None = None
    ) -> Response:
        environ[ARRIVED] = time.perf_counter()
        return await asyncio.get_running_loop().run_in_executor(pool, self._answer, environ, body, declared)

    def _answer(self, environ: dict[str, Any], body: bytes, declared: int | None = None) -> Response:
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body) if declared is None else declared)
        return Response.from_app(self._app, environ, buffered=True)


class _TooMuchError(Exception):
    """The bodies that are being received take too much memory."""


def _environ(scope: Message) -> dict[str, Any]:
    """The request as WSGI has it, without its body."""
    environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": scope["path"].encode().decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_NAME": scope["server"][0],
        "SERVER_PORT": str(scope["server"][1]),
        "REMOTE_ADDR": scope["client"][0] if scope["client"] else "",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        REQUEST_ID: scope["request_id"],
    }
    for name, value in scope["headers"]:
        _add_header(environ, name.decode("latin-1"), value.decode("latin-1"))
    return environ


def _add_header(environ: dict[str, Any], name: str, value: str) -> None:
    # In WSGI one with "_" would pass for another header, which has "-" there. The body is chunked no longer.
    if "_" in name or name == "transfer-encoding":
        return
    key = name.upper().replace("-", "_")
    key = key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"
    environ[key] = f"{environ[key]},{value}" if key in environ else value


async def _send(response: Response, send: Send) -> None:
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": response.data})
