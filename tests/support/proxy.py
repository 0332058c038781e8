"""A forwarder between Label Studio and the backend, which a test has drop, double or spoil what passes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import requests
from support.http_server import Answer, LocalServer, Request

DROPPED = ("connection", "content-length", "transfer-encoding", "content-encoding", "host")
HALF = Answer(200, b'{"tasks": [', {"Content-Length": "1000", "Content-Type": "application/json"})


class Proxy(LocalServer):
    """Passes everything on to `target`, unless `fault` gives another answer."""

    def __init__(self, target: str) -> None:
        super().__init__(self._answer)
        self.target = target
        self.kept: list[Request] = []

    def fault(self, request: Request) -> Answer | None:
        """What to answer in the target's place; None: ask the target."""
        return None

    def forward(self, request: Request) -> Answer:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in DROPPED}
        try:
            answer = requests.request(
                request.method,
                self.target + request.path,
                headers=headers,
                data=request.body,
                timeout=30,
                allow_redirects=False,
            )
        except requests.RequestException:
            return Answer(502)
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in DROPPED}
        return Answer(answer.status_code, answer.content, kept)

    def _answer(self, request: Request) -> Answer:
        self.kept.append(request)
        return self.fault(request) or self.forward(request)


@contextmanager
def proxied(target: str) -> Iterator[Proxy]:
    """A proxy that runs in the block."""
    yield from Proxy(target).run()  # type: ignore[misc]
