from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Request as FlaskRequest
from support.http_server import Answer, LocalServer, Request, serve
from support.label_studio import RunningLabelStudio

from imil_backend.errors import LabelStudioError, SettingsError
from imil_backend.label_studio.api.client import LabelStudio
from imil_backend.label_studio.api.webhooks import (
    ACTIONS,
    BasicCredentials,
    Change,
    check_backend_url,
    ensure_ml_backend,
    ensure_webhook,
    webhook_url,
)
from imil_backend.server import auth as server_auth

NOTHING = {
    "from_name": "review",
    "to_name": "image",
    "type": "choices",
    "value": {"choices": ["nothing_to_black_out"]},
}
LOGIN = BasicCredentials("label-studio", "password")

needs_label_studio = pytest.mark.label_studio


@pytest.fixture
def backend() -> Iterator[LocalServer]:
    """An ML backend that is healthy."""

    def answer(request: Request) -> Answer:
        return Answer(200, {"model_version": "v1"} if request.path == "/setup" else {"status": "UP"})

    with serve(answer) as server:
        yield server


def webhooks(client: LabelStudio, project: int) -> list[dict[str, Any]]:
    hooks: list[dict[str, Any]] = client.request("GET", "/api/webhooks/", params={"project": project})
    return hooks


@needs_label_studio
def test_a_webhook_is_created_once_and_kept(client: LabelStudio, project: int, backend: LocalServer) -> None:
    assert ensure_webhook(client, project, backend.url, "secret") is Change.CREATED
    assert ensure_webhook(client, project, backend.url + "/", "secret") is Change.KEPT
    [hook] = webhooks(client, project)
    assert hook["url"] == webhook_url(backend.url)
    assert hook["headers"] == {"X-IMIL-Secret": "secret"}
    assert set(hook["actions"]) == set(ACTIONS)


@needs_label_studio
@pytest.mark.parametrize(
    "damage",
    [
        {"is_active": False},
        {"headers": {}},
        {"headers": {"X-IMIL-Secret": "old"}},
        {"actions": ["TASKS_DELETED"]},
        {"send_for_all_actions": True},
        {"send_payload": False},
    ],
)
def test_a_webhook_that_was_changed_is_repaired(
    client: LabelStudio, project: int, backend: LocalServer, damage: dict[str, Any]
) -> None:
    ensure_webhook(client, project, backend.url, "secret")
    [before] = webhooks(client, project)
    client.request("PATCH", f"/api/webhooks/{before['id']}/", body={"actions": list(ACTIONS), **damage})
    assert ensure_webhook(client, project, backend.url, "secret") is Change.REPAIRED
    [after] = webhooks(client, project)
    assert {**after, "updated_at": None} == {**before, "updated_at": None}


@needs_label_studio
def test_a_second_webhook_for_the_same_address_goes_and_others_stay(
    client: LabelStudio, project: int, backend: LocalServer
) -> None:
    for url in (webhook_url(backend.url), webhook_url(backend.url) + "/", "http://127.0.0.1:1/other"):
        client.request("POST", "/api/webhooks/", body={"project": project, "url": url})
    assert ensure_webhook(client, project, backend.url, "secret") is Change.REPAIRED
    assert {hook["url"] for hook in webhooks(client, project)} == {
        webhook_url(backend.url),
        "http://127.0.0.1:1/other",
    }


@needs_label_studio
def test_the_webhook_delivers_with_its_secret(
    client: LabelStudio, project: int, backend: LocalServer
) -> None:
    ensure_webhook(client, project, backend.url, "secret")
    task = {"image": "/a.png", "label": "", "predicted": "", "confidence": "", "note": ""}
    [task_id] = client.import_tasks(project, [{"data": task}])
    annotation = client.create_annotation(task_id, [NOTHING], 1.0)
    delivered = backend.requests.get(timeout=10)
    assert delivered.headers["X-IMIL-Secret"] == "secret"
    assert delivered.json["action"] == "ANNOTATION_CREATED"
    assert delivered.json["annotation"]["id"] == annotation


@needs_label_studio
def test_an_ml_backend_is_registered_once_and_adds_no_webhook(
    client: LabelStudio, project: int, backend: LocalServer
) -> None:
    ensure_webhook(client, project, backend.url, "secret")
    assert ensure_ml_backend(client, project, backend.url, "imil", LOGIN) is Change.CREATED
    assert ensure_ml_backend(client, project, backend.url + "/", "imil", LOGIN) is Change.KEPT
    assert ensure_ml_backend(client, project, backend.url, "renamed", LOGIN) is Change.REPAIRED
    assert ensure_ml_backend(client, project, backend.url, "renamed", None) is Change.REPAIRED
    [registered] = client.request("GET", "/api/ml/", params={"project": project})
    assert (registered["title"], registered["auth_method"]) == ("renamed", "NONE")
    assert len(webhooks(client, project)) == 1
    assert ensure_webhook(client, project, backend.url, "secret") is Change.KEPT


@needs_label_studio
def test_label_studio_logs_in_to_the_ml_backend(
    client: LabelStudio, project: int, backend: LocalServer
) -> None:
    ensure_webhook(client, project, backend.url, "secret")
    ensure_ml_backend(client, project, backend.url, "imil", LOGIN)
    assert all(request.headers["Authorization"].startswith("Basic ") for request in backend.requests.queue)


@needs_label_studio
def test_label_studio_logs_in_with_characters_beyond_ascii(
    client: LabelStudio, project: int, backend: LocalServer
) -> None:
    user, password, secret = "\u00e4rzte", "p\u00e4ssw\u00f6rt \u00a7:1", "schl\u00fcssel"
    ensure_webhook(client, project, backend.url, secret)
    ensure_ml_backend(client, project, backend.url, "imil", BasicCredentials(user, password))
    asked = list(backend.requests.queue)
    guard = server_auth.BasicAuth(user, password)
    assert asked
    assert all(
        guard.allows(FlaskRequest({"HTTP_AUTHORIZATION": each.headers["Authorization"]})) for each in asked
    )
    task = {"image": "/a.png", "label": "", "predicted": "", "confidence": "", "note": ""}
    [task_id] = client.import_tasks(project, [{"data": task}])
    client.create_annotation(task_id, [NOTHING], 1.0)
    hooks = [each for each in backend.requests.queue if each.path == "/webhook"]
    assert [each.headers["X-IMIL-Secret"] for each in hooks] == [secret]


@needs_label_studio
def test_an_ml_backend_that_is_down_is_refused(
    client: LabelStudio, project: int, label_studio: RunningLabelStudio
) -> None:
    with pytest.raises(LabelStudioError, match="Can't connect to ML backend") as caught:
        ensure_ml_backend(client, project, "http://127.0.0.1:9", "imil", LOGIN)
    assert "<" not in str(caught.value)
    assert label_studio.request("GET", f"/api/ml/?project={project}").json() == []


@pytest.mark.parametrize(
    "url", ["http://localhost:9090", "http://10.0.0.1", "http://[::1]:9090", "https://a.b/sub"]
)
def test_an_address_with_a_dot_localhost_or_an_ip_is_taken(url: str) -> None:
    check_backend_url(url)


@pytest.mark.parametrize("url", ["http://backend:9090", "backend.internal", ""])
def test_an_address_without_a_dot_is_refused_before_label_studio_does(url: str) -> None:
    with pytest.raises(SettingsError, match="IMIL_PUBLIC_URL"):
        check_backend_url(url)
