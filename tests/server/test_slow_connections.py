"""Senders that send slowly, wrongly or not at all, against a real web process on ::1."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import requests
from server_fakes import SECRET, recorded
from support.label_studio import free_port

pytestmark = pytest.mark.slow  # processes

DEADLINE = 1.0
PROGRAM = """
import sys, threading
from functools import partial
sys.path.insert(0, sys.argv[1])
from server_fakes import FakeChampion, FakeEvents, make_settings
from imil_backend.server import connections, run

class StuckChampion(FakeChampion):
    def versions(self, project):
        threading.Event().wait(1)

connections.HEAD_SECONDS = connections.BODY_SECONDS = float(sys.argv[3])
run.create_app = partial(run.create_app, champion=StuckChampion(), events=FakeEvents())
settings = make_settings(host="::1", port=int(sys.argv[2]), basic_auth_user="ls", basic_auth_password="pw")
run.serve(settings)
"""
POST = b"POST /webhook HTTP/1.1\r\nHost: [::1]\r\n"
WITH_SECRET = POST + b"X-IMIL-Secret: new-secret\r\n"
KINDS = {
    "nothing": b"",
    "half a request line": b"POST /web",
    "half a head": POST + b"X-Slow: a",
    "half a body": WITH_SECRET + b"Content-Length: 1000\r\n\r\n{",
    "half a chunk": WITH_SECRET + b"Transfer-Encoding: chunked\r\n\r\nff\r\n{",
    "half a hello of TLS": b"\x16\x03\x01\x02\x00\x01\x00",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    log, port = tmp_path_factory.mktemp("server") / "log", free_port()
    arguments = [sys.executable, "-c", PROGRAM, str(Path(__file__).parent), str(port), str(DEADLINE)]
    with log.open("wb") as output, subprocess.Popen(arguments, stdout=output, stderr=output) as process:
        wait_until_up(process, f"http://[::1]:{port}/health", log)
        yield port, log
        process.terminate()


def wait_until_up(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            requests.get(url, timeout=60).raise_for_status()
            return
        except requests.ConnectionError:
            time.sleep(0.05)
    pytest.fail(log.read_text())


@contextmanager
def connected(port: int, sent: bytes) -> Iterator[socket.socket]:
    with socket.create_connection(("::1", port), timeout=10) as connection:
        connection.sendall(sent)
        yield connection


def answer(connection: socket.socket) -> bytes:
    """What comes until the other side closes."""
    pieces = []
    try:
        while piece := connection.recv(65_536):
            pieces.append(piece)
    except ConnectionResetError:
        pass
    return b"".join(pieces)


def test_what_anyone_may_ask_is_answered_before_a_body(server: tuple[int, Path]) -> None:
    head = POST.replace(b"POST /webhook", b"GET /health") + b"Content-Length: 5000\r\n\r\n"
    with connected(server[0], head) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("kind", KINDS)
def test_who_does_not_go_on_is_cut_off(server: tuple[int, Path], kind: str) -> None:
    began = time.monotonic()
    with connected(server[0], KINDS[kind]) as connection:
        answer(connection)
    assert time.monotonic() - began < 4 * DEADLINE


@pytest.mark.parametrize("kind", ["half a head", "half a body"])
def test_who_drips_is_cut_off_all_the_same(server: tuple[int, Path], kind: str) -> None:
    began = time.monotonic()
    with connected(server[0], KINDS[kind]) as connection, pytest.raises(OSError):
        connection.settimeout(0.05)
        while time.monotonic() - began < 10 * DEADLINE:
            connection.sendall(b"a")
            try:
                if not connection.recv(100):
                    raise BrokenPipeError
            except TimeoutError:
                pass
    assert DEADLINE / 2 < time.monotonic() - began < 4 * DEADLINE


def test_events_are_answered_at_once_beside_slow_connections_and_stuck_threads(
    server: tuple[int, Path],
) -> None:
    """The small sister of `python -m benchmarks slow`."""
    port = server[0]
    versions = b"GET /versions HTTP/1.1\r\nHost: [::1]\r\nAuthorization: Basic bHM6cHc=\r\n\r\n"
    with ExitStack() as stack:
        for sent in [*KINDS.values()] * 20 + [versions] * 12:
            stack.enter_context(connected(port, sent))
        latencies = []
        for _ in range(30):
            began = time.monotonic()
            event = recorded("annotation_updated")
            taken = requests.post(f"http://[::1]:{port}/webhook", json=event, headers=SECRET, timeout=10)
            latencies.append(time.monotonic() - began)
            assert taken.status_code == 200
    assert sorted(latencies)[-3] < 0.3


def test_without_credentials_no_body_is_read(server: tuple[int, Path]) -> None:
    for head in (
        POST,
        POST + b"X-IMIL-Secret: wrong\r\n",
        POST.replace(b"webhook", b"predict"),
        WITH_SECRET.replace(b"webhook", b"predict"),
    ):
        with connected(server[0], head + b"Content-Length: 50000000\r\n\r\n") as connection:
            assert connection.recv(100).startswith(b"HTTP/1.1 401 ")


def test_a_foreign_host_is_refused_before_its_body(server: tuple[int, Path]) -> None:
    head = WITH_SECRET.replace(b"[::1]", b"evil.example") + b"Content-Length: 50000000\r\n\r\n"
    with connected(server[0], head) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "rest",
    [
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nabcde\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 30 + b"\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}zz\r\n0\r\n\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        b"Content-Length: abc\r\n\r\n",
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"X: " + b"a" * 200_000 + b"\r\n\r\n",
        b"Host: [::1]\r\n\r\n",
        b"No colon\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused(server: tuple[int, Path], rest: bytes) -> None:
    with connected(server[0], WITH_SECRET + rest) as connection:
        status = int(connection.recv(100).split(b" ")[1])
    assert status in {400, 413, 431, 501}


def test_a_path_cannot_forge_a_record(server: tuple[int, Path]) -> None:
    forged = "/%0d%0a2026-01-01 CRITICAL imil: all is lost%1b[2J%e2%80%a8"
    requests.get(f"http://[::1]:{server[0]}{forged}", timeout=10)
    deadline = time.monotonic() + 10
    while "all is lost" not in server[1].read_text():  # it is logged after the answer
        assert time.monotonic() < deadline
        time.sleep(0.01)
    [line] = [line for line in server[1].read_text().split("\n") if "all is lost" in line]
    assert line.isprintable()
    assert r"/\r\n2026-01-01 CRITICAL" in line


def test_a_header_does_not_pass_for_another(server: tuple[int, Path]) -> None:
    head = POST + b"X_IMIL_Secret: new-secret\r\nContent-Length: 2\r\n\r\n{}"
    with connected(server[0], head) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 401 ")
