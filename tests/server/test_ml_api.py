from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

import pytest
from flask import Flask
from flask.testing import FlaskClient
from server_fakes import FakeChampion, recorded
from support.waiting import waits
from werkzeug.test import TestResponse

from imil_backend.errors import (
    DatasetError,
    ImilError,
    LabelStudioAuthError,
    LabelStudioUnreachableError,
    NotFoundError,
    RoundError,
    UnreadableImageError,
    WeightsError,
)
from imil_backend.server.ml_api import MOST_PREDICTIONS


@pytest.mark.parametrize("path", ["/", "/health"])
def test_health_is_up(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json) == (200, {"status": "UP"})


def test_setup_and_predict_name_the_same_version(client: FlaskClient) -> None:
    setup = client.post("/setup", json=recorded("ml_setup"))
    predict = client.post("/predict", json=recorded("ml_predict"))
    assert setup.json == {"model_version": "version-of-13"}
    assert predict.json == {"results": [{"result": [], "score": 34.0, "model_version": "version-of-13"}]}


def test_predict_answers_every_task_in_order(client: FlaskClient, champion: FakeChampion) -> None:
    request = recorded("ml_predict") | {"tasks": [{"id": number, "data": {}} for number in (5, 3, 9)]}
    answer = client.post("/predict", json=request)
    assert [result["score"] for result in answer.json["results"]] == [5.0, 3.0, 9.0]
    assert champion.asked == [(13, 3, request["label_config"])]


def test_predictions_leave_threads_to_events(app: Flask, champion: FakeChampion) -> None:
    all_under_way, go_on = threading.Barrier(MOST_PREDICTIONS + 1), threading.Event()

    def wait(*_: object) -> list[object]:
        all_under_way.wait(10)
        go_on.wait(10)
        return []

    def ask() -> TestResponse:
        return app.test_client().post("/predict", json=recorded("ml_predict"))

    with patch.object(champion, "predict", wait), ThreadPoolExecutor(MOST_PREDICTIONS) as pool:
        predictions = [pool.submit(ask) for _ in range(MOST_PREDICTIONS)]
        all_under_way.wait(10)
        one_more = ask()
        health = app.test_client().get("/health")
        go_on.set()
    assert [each.result().status_code for each in predictions] == [200] * MOST_PREDICTIONS
    assert (one_more.status_code, health.status_code) == (503, 200)
    assert "retry in a moment" in one_more.json["error"]
    assert ask().status_code == 200


@pytest.mark.parametrize(
    ("project", "expected"), [("13.1795397599", 13), ("13", 13), (13, 13), (13.5, 13), (None, None)]
)
def test_projects_are_named_in_several_ways(client: FlaskClient, project: object, expected: object) -> None:
    answer = client.post("/setup", json={"project": project})
    assert answer.json == {"model_version": f"version-of-{expected}"}


@pytest.mark.parametrize("project", ["", "x", "13.", "-1", True, [13], {"id": 13}, "9" * 19, "\u0663", -1])
def test_a_wrong_project_is_refused(client: FlaskClient, project: object) -> None:
    answer = client.post("/setup", json={"project": project})
    assert answer.status_code == 400
    assert "project must be an id" in answer.json["error"]


@pytest.mark.parametrize("path", ["/setup", "/predict", "/versions", "/job_status"])
@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b"[" * 50_000, b'{"a": ' + b"9" * 5000 + b"}"]
)
def test_a_bad_body_is_refused(client: FlaskClient, path: str, body: bytes) -> None:
    answer = client.post(path, data=body, content_type="application/json")
    assert answer.status_code == 400
    assert answer.json == {"error": "The body is not a JSON object."}


@pytest.mark.parametrize("path", ["/setup", "/predict", "/versions", "/job_status"])
def test_text_that_is_no_unicode_is_refused(client: FlaskClient, path: str) -> None:
    answer = client.post(path, data=rb'{"job": "\ud800"}', content_type="application/json")
    assert answer.status_code == 400
    assert "no Unicode" in answer.json["error"]


@pytest.mark.parametrize(
    "tasks",
    [
        None,
        {},
        "tasks",
        [1],
        [None],
        [[{}]],
        [{"id": True}],
        [{"id": 1, "data": "x"}],
        [{"id": 1, "data": None}],
    ],
)
def test_predict_refuses_what_is_no_list_of_tasks(client: FlaskClient, tasks: object) -> None:
    answer = client.post("/predict", json={"tasks": tasks, "project": "1.2", "params": None})
    assert answer.status_code == 400
    assert "tasks must be a list" in answer.json["error"]


def test_predict_refuses_more_tasks_than_it_has_memory_for(client: FlaskClient) -> None:
    answer = client.post("/predict", json={"tasks": [{}] * 10_001})
    assert answer.status_code == 400
    assert "10,001 tasks are asked for at once; ask for 10,000 at most" in answer.json["error"]


def test_a_body_that_is_not_declared_as_json_is_refused(client: FlaskClient) -> None:
    assert client.post("/predict", data=b"{}", content_type="text/plain").status_code == 415


def test_a_body_over_the_limit_is_refused(client: FlaskClient) -> None:
    answer = client.post("/predict", data=b" " * 100_001, content_type="application/json")
    assert answer.status_code == 413
    assert "error" in answer.json


def test_versions_are_listed(client: FlaskClient) -> None:
    assert client.get("/versions").json == {"versions": ["v1", "version-of-None"]}
    assert client.get("/versions?project=13").json == {"versions": ["v1", "version-of-13"]}
    assert client.post("/versions", json={"project": "13.1"}).json == {"versions": ["v1", "version-of-13"]}


def test_the_state_of_a_job_is_told(client: FlaskClient) -> None:
    assert client.post("/job_status", json={"job": "workflow-1"}).json == {"job_status": "started"}
    assert client.post("/job_status", json={"job": "other"}).status_code == 410
    for wrong in (1, True, "", "\0", "job\n"):
        assert client.post("/job_status", json={"job": wrong}).status_code == 400


def test_unknown_addresses_and_methods_are_answered_in_json(client: FlaskClient) -> None:
    missing, wrong_method = client.get("/nothing"), client.get("/predict")
    assert (missing.status_code, wrong_method.status_code) == (404, 405)
    assert "error" in missing.json
    assert "error" in wrong_method.json
    assert "POST" in wrong_method.headers["Allow"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (LabelStudioUnreachableError("no answer"), 503),
        (LabelStudioAuthError("set LABEL_STUDIO_API_KEY"), 502),
        (NotFoundError("no such project"), 404),
        (RoundError("the round is closed"), 409),
        (DatasetError("no images"), 409),
        (UnreadableImageError("a.png is truncated"), 422),
        (WeightsError("weights are damaged"), 503),
        (ImilError("something"), 500),
    ],
)
def test_our_errors_are_told_with_a_fitting_status(
    client: FlaskClient, champion: FakeChampion, error: ImilError, status: int
) -> None:
    champion.error = error
    answer = client.post("/predict", json=recorded("ml_predict"))
    assert (answer.status_code, answer.json) == (status, {"error": str(error)})


def test_an_unexpected_error_is_logged_and_not_told(
    client: FlaskClient, champion: FakeChampion, caplog: pytest.LogCaptureFixture
) -> None:
    champion.error = RuntimeError("detail")
    answer = client.post("/predict", json=recorded("ml_predict"))
    assert answer.status_code == 500
    assert b"detail" not in answer.data
    assert "RuntimeError: detail" in caplog.text


def test_health_and_setup_wait_for_nothing(client: FlaskClient) -> None:
    def ask() -> None:
        client.get("/health")
        client.post("/setup", json=recorded("ml_setup"))

    ask()
    with waits() as waited:
        for _ in range(20):
            ask()
    assert waited == []
