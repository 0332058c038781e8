from __future__ import annotations

import pytest
from flask.testing import FlaskClient
from server_fakes import PAYLOADS, FakeEvents, FakeReceipt, recorded

from imil_backend.errors import RoundError, StoreError

SECRET = {"X-IMIL-Secret": "new-secret"}
WEBHOOK_EVENTS = sorted(
    path.stem
    for path in PAYLOADS.glob("*.json")
    if path.stem not in {"task_with_draft"} and "ml_" not in path.stem
)


@pytest.mark.parametrize("name", WEBHOOK_EVENTS)
def test_recorded_events_reach_the_loop(client: FlaskClient, events: FakeEvents, name: str) -> None:
    answer = client.post("/webhook", json=recorded(name), headers=SECRET)
    assert answer.status_code == 200
    assert answer.json == {"accepted": True, "reason": "recorded", "jobs": ["workflow-1"]}
    assert events.recorded == [recorded(name)]


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"action": None},
        {"action": "SOMETHING_NEW", "project": 7},
        {"action": "ANNOTATIONS_CREATED", "annotation": [{"id": 1}, {"id": 2}], "project": {"id": 1}},
        {"action": "ANNOTATION_CREATED", "project": {"id": 999}},
    ],
)
def test_any_object_is_left_to_the_loop(client: FlaskClient, events: FakeEvents, payload: dict) -> None:
    assert client.post("/webhook", json=payload, headers=SECRET).status_code == 200
    assert events.recorded == [payload]


@pytest.mark.parametrize(
    "body", [b"", b'{"action": "ANNOTATION_CREA', b"[]", b"null", b"\xff", b"[" * 50_000]
)
def test_an_unreadable_body_is_still_a_hint(client: FlaskClient, events: FakeEvents, body: bytes) -> None:
    assert client.post("/webhook", data=body, headers=SECRET).status_code == 200
    assert events.recorded == [{}]


def test_an_event_that_no_label_studio_writes_is_refused(client: FlaskClient, events: FakeEvents) -> None:
    events.record = lambda payload: FakeReceipt(False, "An id is true.", [], malformed=True)  # type: ignore
    answer = client.post("/webhook", json={"action": "ANNOTATION_CREATED"}, headers=SECRET)
    assert (answer.status_code, answer.json) == (400, {"error": "An id is true."})


@pytest.mark.parametrize(
    ("text", "status"),
    [(r"\ud800", 400), (r"\udc00\ud800", 400), (r"\uD83D\uDE00", 200), (r"\\ud800", 200)],
)
def test_text_that_is_no_unicode_is_refused(
    client: FlaskClient, events: FakeEvents, text: str, status: int
) -> None:
    for body in (f'{{"action": ["{text}"]}}', f'{{"{text}": 1}}'):
        assert client.post("/webhook", data=body, headers=SECRET).status_code == status
    assert bool(events.recorded) == (status == 200)


def test_a_body_that_breaks_off_is_still_a_hint(client: FlaskClient, events: FakeEvents) -> None:
    cut = client.post("/webhook", data=b'{"action":', headers=SECRET | {"Content-Length": "5000"})
    assert cut.status_code == 200
    assert events.recorded == [{}]


def test_every_valid_secret_is_accepted(client: FlaskClient) -> None:
    for secret in ("new-secret", "old-secret"):
        answer = client.post("/webhook", json={}, headers={"X-IMIL-Secret": secret})
        assert answer.status_code == 200


@pytest.mark.parametrize("secret", ["", "new-secre", "new-secret2", "new-secret,old-secret", "\xe9"])
def test_a_wrong_secret_is_refused(client: FlaskClient, events: FakeEvents, secret: str) -> None:
    payload = recorded("annotation_updated")
    answer = client.post("/webhook", json=payload, headers={"X-IMIL-Secret": secret})
    assert answer.status_code == 401
    assert "X-IMIL-Secret" in answer.json["error"]
    assert client.post("/webhook", json=payload).status_code == 401
    assert events.recorded == []


def test_an_empty_secret_never_matches(client: FlaskClient, events: FakeEvents) -> None:
    events.secrets = lambda: ("",)  # type: ignore[method-assign]
    assert client.post("/webhook", json={}, headers={"X-IMIL-Secret": ""}).status_code == 401


def test_the_secret_suffices_where_others_need_basic_auth(guarded: FlaskClient, events: FakeEvents) -> None:
    assert guarded.post("/webhook", json={}, headers=SECRET).status_code == 200
    assert guarded.post("/webhook", json={}).status_code == 401


def test_start_training_comes_without_our_header(client: FlaskClient, events: FakeEvents) -> None:
    answer = client.post("/webhook", json=recorded("ml_start_training"))
    assert (answer.status_code, answer.json) == (201, {"job": "training-13"})
    assert events.trainings == [13]


def test_start_training_needs_basic_auth_beyond_loopback(guarded: FlaskClient, events: FakeEvents) -> None:
    payload = recorded("ml_start_training_basic_auth")
    assert guarded.post("/webhook", json=payload).status_code == 401
    assert guarded.post("/webhook", json=payload, auth=("ls", "wrong")).status_code == 401
    answer = guarded.post("/webhook", json=payload, auth=("ls", "pw"))
    assert (answer.status_code, answer.json) == (201, {"job": "training-14"})
    assert events.trainings == [14]


def test_basic_auth_does_not_replace_the_secret_of_other_events(
    guarded: FlaskClient, events: FakeEvents
) -> None:
    answer = guarded.post("/webhook", json=recorded("annotation_updated"), auth=("ls", "pw"))
    assert answer.status_code == 401
    assert events.recorded == []


def test_start_training_is_not_taken_from_a_foreign_web_page(client: FlaskClient, events: FakeEvents) -> None:
    answer = client.post(
        "/webhook", data=b'{"action": "START_TRAINING", "project": {"id": 1}}', content_type="text/plain"
    )
    assert answer.status_code == 415
    assert events.trainings == []


@pytest.mark.parametrize("project", [None, {}, {"id": "x"}, [], {"id": None}])
def test_start_training_without_a_project_is_refused(client: FlaskClient, project: object) -> None:
    answer = client.post("/webhook", json={"action": "START_TRAINING", "project": project})
    assert answer.status_code == 400


def test_start_training_says_why_it_cannot(client: FlaskClient, events: FakeEvents) -> None:
    events.error = RoundError("Round 2 is already being trained.")
    answer = client.post("/webhook", json=recorded("ml_start_training"))
    assert (answer.status_code, answer.json) == (409, {"error": "Round 2 is already being trained."})


def test_an_event_over_the_limit_is_refused(client: FlaskClient, events: FakeEvents) -> None:
    assert client.post("/webhook", data=b" " * 100_001, headers=SECRET).status_code == 413
    assert events.recorded == []
    assert client.post("/webhook", data=b" " * 100_000, headers=SECRET).status_code == 200


def test_a_store_that_is_down_is_told(client: FlaskClient, events: FakeEvents) -> None:
    events.error = StoreError("The database cannot be reached.")
    answer = client.post("/webhook", json=recorded("annotation_updated"), headers=SECRET)
    assert (answer.status_code, answer.json) == (503, {"error": "The database cannot be reached."})
