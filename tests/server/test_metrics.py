from __future__ import annotations

import asyncio
import time

import pytest
from flask.testing import FlaskClient
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families
from requests import Session
from server_fakes import SECRET, FakeChampion, FakeEvents, FakeReceipt, make_settings, recorded
from support.label_studio import free_port

from imil_backend.errors import SettingsError, StoreError
from imil_backend.server import edge
from imil_backend.server.app import GATE, create_app
from imil_backend.server.edge import Edge, Message
from imil_backend.server.monitoring.endpoints import ARRIVED
from imil_backend.server.monitoring.worker_port import worker_port

BEARER = {"Authorization": "Bearer scrape-me"}


def series(text: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scraped(client: FlaskClient) -> dict[tuple[str, ...], float]:
    return series(client.get("/metrics").text)


def test_requests_are_counted_and_timed_by_endpoint(client: FlaskClient) -> None:
    client.get("/health")
    client.get("/versions?project=13")
    client.get("/no/such/Jane-Doe.png")
    client.open("/health", method="INVENTED")
    found = scraped(client)
    assert found["imil_http_requests_total", "/health", "GET", "200"] == 1
    assert found["imil_http_requests_total", "/versions", "GET", "200"] == 1
    assert found["imil_http_requests_total", "other", "GET", "404"] == 1
    assert found["imil_http_requests_total", "other", "other", "405"] == 1
    assert found["imil_http_request_duration_seconds_count", "/versions"] == 1
    assert found["imil_http_request_duration_seconds_bucket", "/versions", "1.0"] == 1
    assert "Jane" not in client.get("/metrics").text


def test_the_time_that_a_request_waited_for_a_thread_counts(client: FlaskClient) -> None:
    client.get("/versions", environ_overrides={ARRIVED: time.perf_counter() - 2})
    found = scraped(client)
    assert found["imil_http_request_duration_seconds_bucket", "/versions", "1.5"] == 0
    assert found["imil_http_request_duration_seconds_bucket", "/versions", "3.0"] == 1


def test_what_is_too_much_at_once_is_counted_too(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "MOST_BODIES", 10)
    scope = {
        **{"type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "path": "/predict"},
        **{"query_string": b"", "headers": [], "server": ("127.0.0.1", 9090), "client": None},
    }
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"x" * 11, "more_body": True}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(Edge(client.application, client.application.extensions[GATE], 100)(scope, receive, send))
    assert (sent[0]["status"], b"ask again" in sent[1]["body"]) == (503, True)
    found = scraped(client)
    assert found["imil_http_requests_total", "/predict", "POST", "503"] == 1
    assert found["imil_predictions_total", "refused"] == 1


def test_events_are_counted_by_outcome(client: FlaskClient, events: FakeEvents) -> None:
    event = recorded("annotation_updated")
    client.post("/webhook", json=event, headers=SECRET)
    client.post("/webhook", json=event, headers={"X-IMIL-Secret": "wrong"})
    client.post("/webhook", json=recorded("ml_start_training"))
    events.record = lambda payload: FakeReceipt(accepted=False)  # type: ignore[method-assign]
    client.post("/webhook", json=event, headers=SECRET)
    del events.record
    events.error = StoreError("full")
    client.post("/webhook", json=event, headers=SECRET)
    found = scraped(client)
    outcomes = ("recorded", "ignored", "training", "refused", "failed")
    assert [found["imil_webhook_events_total", each] for each in outcomes] == [1, 1, 1, 1, 1]


def test_predictions_are_counted_by_outcome(client: FlaskClient, champion: FakeChampion) -> None:
    client.post("/predict", json=recorded("ml_predict"))
    client.post("/predict", json={"tasks": "none"})
    champion.error = RuntimeError("broken")
    client.post("/predict", json=recorded("ml_predict"))
    found = scraped(client)
    outcomes = ("answered", "refused", "failed")
    assert [found["imil_predictions_total", each] for each in outcomes] == [1, 1, 1]


def test_metrics_ask_for_user_and_password(guarded: FlaskClient) -> None:
    assert guarded.get("/metrics").status_code == 401
    assert guarded.get("/metrics", headers=BEARER).status_code == 401
    assert guarded.get("/metrics", auth=("ls", "pw")).status_code == 200


@pytest.mark.parametrize("user", [{}, {"basic_auth_user": "ls", "basic_auth_password": "pw"}])
def test_a_token_of_its_own_reads_metrics_and_nothing_else(user: dict[str, str]) -> None:
    settings = make_settings(metrics_token="scrape-me", **user)
    client = create_app(settings, champion=FakeChampion(), events=FakeEvents()).test_client()
    assert client.get("/metrics", headers=BEARER).status_code == 200
    for wrong in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic scrape-me"}):
        answer = client.get("/metrics", headers=wrong)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].lower().startswith("basic" if user else "bearer")
    if user:
        assert client.get("/metrics", auth=("ls", "pw")).status_code == 200
        assert client.get("/versions", headers=BEARER).status_code == 401


def test_a_worker_shows_what_it_counts() -> None:
    registry = CollectorRegistry()
    Counter("imil_done", "Done.", registry=registry).inc(3)
    settings = make_settings(worker_port=free_port(), basic_auth_user="ls", basic_auth_password="pw")
    with worker_port(settings, registry) as port, Session() as client:
        url = f"http://127.0.0.1:{port}"
        assert client.get(f"{url}/health", timeout=10).json() == {"status": "UP"}
        assert client.get(f"{url}/metrics", timeout=10).status_code == 401
        assert client.get(f"{url}/setup", timeout=10).status_code == 404
        shown = client.get(f"{url}/metrics", auth=("ls", "pw"), timeout=10).text
        assert series(shown)["imil_done_total",] == 3
        with pytest.raises(SettingsError, match="IMIL_WORKER_PORT"), worker_port(settings, registry):
            pass


def test_a_worker_without_a_port_listens_nowhere() -> None:
    with worker_port(make_settings(worker_port=""), CollectorRegistry()) as port:
        assert port is None


def test_without_credentials_a_worker_answers_under_names_of_its_own_alone() -> None:
    with (
        worker_port(make_settings(worker_port=free_port()), CollectorRegistry()) as port,
        Session() as client,
    ):
        url = f"http://127.0.0.1:{port}/metrics"
        assert client.get(url, timeout=10).status_code == 200
        assert client.get(url, headers={"Host": "page.example"}, timeout=10).status_code == 400
