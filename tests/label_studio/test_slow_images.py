"""Servers that send an image so slowly that no time-out between two bytes is met."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, repeat

import pytest

from imil_backend.errors import ImageError, LabelStudioUnreachableError
from imil_backend.label_studio.api.client import LabelStudio

LIMIT = 0.3
OK = b"HTTP/1.1 200 OK\r\n"
# What is sent at once, and what then drips.
DRIPS = {
    "status line": (b"HTTP/1.1 200 ", b"O"),
    "headers": (OK, b"X-Drip: 1\r\n"),
    "body": (OK + b"Content-Length: 1000000\r\n\r\n", b"x"),
    "body that ends with the connection": (OK + b"\r\n", b"x"),
    "chunk size": (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "trailer": (OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", b"X-Drip: 1\r\n"),
    "refusal": (b"HTTP/1.1 404 Not Found\r\nContent-Length: 1000000\r\n\r\n", b"x"),
    "busy": (b"HTTP/1.1 503 Busy\r\nContent-Length: 1000000\r\n\r\n", b"x"),
    "TLS hello": (b"\x16\x03\x03\x40\x00", b"\x02"),
}


class Dripping:
    """Answers each connection with a beginning, then a drop every 20 ms, until it is told to stop."""

    def __init__(self) -> None:
        self.begin, self.drop = DRIPS["body"]
        self.stopped = threading.Event()
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]

    def run(self) -> Iterator[Dripping]:
        self._threads[0].start()
        yield self
        self.stopped.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._threads.append(threading.Thread(target=self._drip, args=(connection,)))
                self._threads[-1].start()

    def _drip(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(65_536)
            for drop in chain([self.begin], repeat(self.drop)):
                connection.sendall(drop)
                if self.stopped.wait(0.02):
                    return


@pytest.fixture
def dripping() -> Iterator[Dripping]:
    yield from Dripping().run()


@pytest.mark.parametrize("what", sorted(DRIPS.keys() - {"refusal"}))
def test_a_dripping_server_is_left_when_the_time_is_over(dripping: Dripping, what: str) -> None:
    dripping.begin, dripping.drop = DRIPS[what]
    scheme = "https" if what.startswith("TLS") else "http"
    label_studio = LabelStudio("http://label.studio.invalid", "0" * 40, image_hosts=["127.0.0.1"])
    began = time.monotonic()
    with pytest.raises(ImageError, match=r"127.0.0.1 did not give a whole image within 0 s"):
        label_studio.download(f"{scheme}://{dripping.address}/a.png", LIMIT)
    assert LIMIT <= time.monotonic() - began < 5 * LIMIT


@pytest.mark.parametrize("what", ["headers", "body", "refusal"])
def test_label_studio_itself_has_no_more_time(dripping: Dripping, what: str) -> None:
    dripping.begin, dripping.drop = DRIPS[what]
    label_studio = LabelStudio(f"http://{dripping.address}", "0" * 40)
    with pytest.raises(LabelStudioUnreachableError, match="did not give a whole image"):
        label_studio.download("/data/upload/1/a.png", LIMIT)


def test_redirects_do_not_give_more_time(dripping: Dripping) -> None:
    location = f"Location: http://{dripping.address}/more\r\n"
    dripping.begin = b"HTTP/1.1 302 Found\r\nContent-Length: 5\r\n" + location.encode() + b"\r\n"
    label_studio = LabelStudio("http://label.studio.invalid", "0" * 40, image_hosts=["127.0.0.1"])
    with pytest.raises(ImageError, match=r"redirected more than 5 times|within 0 s"):
        label_studio.download(f"http://{dripping.address}/a.png", LIMIT)


def test_a_connection_of_an_earlier_fetch_is_ended_too(dripping: Dripping) -> None:
    dripping.begin, dripping.drop = OK + b"Content-Length: 4\r\n\r\n1234", b""
    label_studio = LabelStudio("http://label.studio.invalid", "0" * 40, image_hosts=["127.0.0.1"])
    address = f"http://{dripping.address}/a.png"
    assert label_studio.download(address, 10) == b"1234"
    began = time.monotonic()
    with pytest.raises(ImageError, match="whole image"):
        label_studio.download(address, LIMIT)
    assert time.monotonic() - began < 5 * LIMIT
    assert dripping.connections == 1
