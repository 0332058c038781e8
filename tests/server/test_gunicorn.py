from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import requests
from server_fakes import make_settings, recorded
from support.label_studio import free_port
from support.waiting import waits

from imil_backend.errors import SettingsError
from imil_backend.server.run import serve

pytestmark = pytest.mark.slow  # processes

SECRET = {"X-IMIL-Secret": "new-secret"}
LIMIT = 2_000_000
PROGRAM = """
import atexit, sys, time
from functools import partial
sys.path.insert(0, sys.argv[1])
from server_fakes import FakeChampion, FakeEvents, make_settings
from imil_backend.json_logs import log_as_json
from imil_backend.server import run

class SlowChampion(FakeChampion):
    def predict(self, project, tasks, *more):
        if tasks[0]["id"] == 77:
            print("under way", flush=True)
            time.sleep(1)
        return super().predict(project, tasks, *more)

atexit.register(print, "taken apart", flush=True)
run.create_app = partial(run.create_app, champion=SlowChampion(), events=FakeEvents())
settings = make_settings(
    port=int(sys.argv[2]), max_body_bytes=int(sys.argv[3]), web_processes=2, log_format=sys.argv[4]
)
if settings.log_format == "json":
    log_as_json()
run.serve(settings)
"""


@dataclass
class Server:
    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory) as server:
        yield server


@pytest.fixture
def another_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory) as server:
        yield server


@contextmanager
def running_server(tmp_path_factory: pytest.TempPathFactory, log_format: str = "text") -> Iterator[Server]:
    log = tmp_path_factory.mktemp("server") / "log"
    port = free_port()
    arguments = [sys.executable, "-c", PROGRAM, str(Path(__file__).parent), str(port), str(LIMIT), log_format]
    with log.open("wb") as output:
        process = subprocess.Popen(arguments, stdout=output, stderr=subprocess.STDOUT)
    try:
        server = Server(process, port, log)
        wait_until_up(server)
        yield server
    finally:
        process.terminate()
        process.wait(30)


def wait_until_up(server: Server) -> None:
    # The socket listens before the first process is ready, so that the request waits for it.
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert server.process.poll() is None, server.log.read_text()
        try:
            requests.get(f"{server.url}/health", timeout=30).raise_for_status()
            return
        except requests.ConnectionError:
            time.sleep(0.05)
    pytest.fail(server.log.read_text())


def test_the_protocol_is_served(server: Server) -> None:
    assert requests.get(f"{server.url}/health", timeout=10).json() == {"status": "UP"}
    setup = requests.post(f"{server.url}/setup", json=recorded("ml_setup"), timeout=10)
    assert setup.json() == {"model_version": "version-of-13"}


def test_a_streamed_event_is_taken(server: Server) -> None:
    pieces = iter([b'{"action":', b'"ANNOTATION_UPDATED"}'])
    answer = requests.post(f"{server.url}/webhook", data=pieces, headers=SECRET, timeout=10)
    assert answer.status_code == 200


def test_an_event_over_the_limit_is_refused(server: Server) -> None:
    answer = requests.post(f"{server.url}/webhook", data=b" " * (LIMIT + 1), headers=SECRET, timeout=10)
    assert answer.status_code == 413


def test_a_stream_over_the_limit_is_refused(server: Server) -> None:
    for size, status in ((LIMIT, 200), (LIMIT + 1, 413), (LIMIT + 70_000, 413)):
        pieces = iter([b" " * (size - 1), b" "])
        answer = requests.post(f"{server.url}/webhook", data=pieces, headers=SECRET, timeout=10)
        assert answer.status_code == status


def test_a_large_event_without_the_secret_learns_why_it_is_refused(server: Server) -> None:
    for _ in range(20):
        answer = requests.post(f"{server.url}/webhook", json={"rle": [255] * 150_000}, timeout=10)
        assert answer.status_code == 401


def test_an_event_that_breaks_off_leaves_the_server_well(server: Server) -> None:
    head = (
        "POST /webhook HTTP/1.1\r\nHost: localhost\r\nX-IMIL-Secret: new-secret\r\nContent-Length: 99\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head.encode() + b'{"action": "ANNOT')
    deadline = time.monotonic() + 10
    while not re.search(r'"POST /webhook" 200 \d+ \d+ms\n(?!.*POST)', server.log.read_text()):
        assert time.monotonic() < deadline  # that something happened is recorded all the same
        time.sleep(0.02)
    assert requests.get(f"{server.url}/health", timeout=10).ok


def test_the_log_holds_neither_secrets_nor_bodies(server: Server) -> None:
    requests.post(
        f"{server.url}/setup?token=query-token",
        json={"access_token": "body-token", "project": "1"},
        headers={"Authorization": "Token header-token", "Referer": "http://refer-token", **SECRET},
        timeout=10,
    )
    log = server.log.read_text()
    assert '"POST /setup" 200' in log
    assert "-token" not in log
    assert "new-secret" not in log


def test_idle_processes_are_small(server: Server) -> None:
    processes = psutil.Process(server.process.pid).children()
    assert len(processes) == 2
    assert all(process.memory_info().rss < 500 * 2**20 for process in processes)


def test_a_second_server_on_the_port_is_refused_without_another_try(server: Server) -> None:
    refused = pytest.raises(SettingsError, match=rf"Port {server.port} of 127.0.0.1 is in use.*IMIL_PORT")
    with waits() as waited, refused:
        serve(make_settings(port=server.port))
    assert not any("sleep" in each or "fork" in each for each in waited)


def test_a_store_that_cannot_be_opened_ends_the_server_with_its_reason() -> None:
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from server_fakes import make_settings
from imil_backend.errors import NewerDataError
from imil_backend.server import run
def create_app(settings):
    raise NewerDataError("The data directory is newer than this program: upgrade it.")
run.create_app = create_app
run.serve(make_settings(port={free_port()}))
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "The data directory is newer than this program: upgrade it." in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_is_not_ours_is_refused(host: str) -> None:
    with pytest.raises(SettingsError, match="IMIL_HOST"):
        serve(make_settings(host=host, basic_auth_user="ls", basic_auth_password="pw"))


def test_a_server_beyond_loopback_does_not_start_without_a_password() -> None:
    with pytest.raises(SettingsError, match="IMIL_BASIC_AUTH_PASSWORD"):
        serve(make_settings(host="0.0.0.0", port=free_port()))


def test_sigterm_ends_the_server_in_order(server: Server) -> None:
    children = psutil.Process(server.process.pid).children()
    with requests.Session() as client:  # which keeps its connection
        client.get(f"{server.url}/health", timeout=10)
        server.process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        assert server.process.wait(30) == 0
    assert time.monotonic() - started < 10  # 2 on a machine that has nothing else to do
    assert not any(child.is_running() for child in children)
    assert "taken apart" not in server.log.read_text()


def test_web_processes_end_when_their_parent_was_killed(another_server: Server) -> None:
    children = psutil.Process(another_server.process.pid).children()
    another_server.process.kill()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []


def test_a_request_under_way_is_answered_before_the_server_ends(another_server: Server) -> None:
    request = recorded("ml_predict") | {"tasks": [{"id": 77, "data": {}}]}
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(requests.post, f"{another_server.url}/predict", json=request, timeout=60)
        deadline = time.monotonic() + 60
        while "under way" not in another_server.log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        another_server.process.send_signal(signal.SIGTERM)
        assert answer.result().json()["results"][0]["score"] == 77
    assert another_server.process.wait(30) == 0


def test_logs_are_json_where_they_are_to_be(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running_server(tmp_path_factory, "json") as server:
        requests.get(f"{server.url}/versions?token=secret", timeout=10)
        requests.post(f"{server.url}/webhook", json={}, timeout=10)
    lines = [json.loads(each) for each in server.log.read_text().splitlines()]
    answers = [(each["path"], each["status"], each["method"]) for each in lines if "path" in each]
    assert ("/versions", 200, "GET") in answers
    assert ("/webhook", 401, "POST") in answers
    assert any("Listening at" in each["event"] for each in lines)
    assert len({each["request"] for each in lines if "path" in each}) == len(answers)
    assert "secret" not in str(lines)


def test_metrics_are_those_of_all_processes(another_server: Server) -> None:
    counts = []
    for _ in range(40):  # connections of their own, which either process may take
        requests.get(f"{another_server.url}/versions", timeout=10)
        shown = requests.get(f"{another_server.url}/metrics", timeout=10).text
        [line] = [each for each in shown.splitlines() if 'endpoint="/versions"' in each and "_total{" in each]
        counts.append(float(line.rpartition(" ")[2]))
    assert counts == list(range(1, 41))
    [process, *_] = psutil.Process(another_server.process.pid).children()
    folder = Path(next(each.path for each in process.memory_maps() if each.path.endswith(".db"))).parent
    another_server.process.terminate()
    assert another_server.process.wait(30) == 0
    assert not folder.exists()
