"""A small HTTP server for tests: answers as it is told, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from typing import Any


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    status: int = 200
    body: bytes | Any = b""
    headers: Mapping[str, str] = field(default_factory=dict)


HANG_UP = Answer(0)  # no answer at all


class LocalServer:
    """Its address, the requests so far, and what to answer: a function of the request."""

    def __init__(self, answer: Callable[[Request], Answer]) -> None:
        self.answer = answer
        self.requests: Queue[Request] = Queue()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_request(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                request = Request(self.command, self.path, dict(self.headers), body)
                server.requests.put(request)
                self._send(server.answer(request))

            do_GET = do_POST = do_PATCH = do_DELETE = handle_request  # noqa: N815

            def _send(self, answer: Answer) -> None:
                if answer is HANG_UP:
                    self.close_connection = True
                    return
                body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
                self.send_response(answer.status)
                # Said, or a client may send its next request, and no POST twice, down a line that is closing.
                headers = {"Content-Length": str(len(body)), "Connection": "close", **answer.headers}
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                with suppress(BrokenPipeError):  # whoever asked has given up
                    self.wfile.write(body)
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    @property
    def asked(self) -> list[str]:
        """Method and path of every request so far."""
        return [f"{request.method} {request.path}" for request in list(self.requests.queue)]

    def run(self) -> Iterator[LocalServer]:
        thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self._http.shutdown()
            self._http.server_close()
            thread.join()


@contextmanager
def serve(answer: Callable[[Request], Answer]) -> Iterator[LocalServer]:
    """A server that runs in the block."""
    yield from LocalServer(answer).run()
