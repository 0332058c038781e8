from __future__ import annotations

import pytest
from flask.testing import FlaskClient
from server_fakes import FakeChampion, FakeEvents, make_settings, recorded

from imil_backend.errors import SettingsError
from imil_backend.server.app import create_app


@pytest.mark.parametrize(
    "values",
    [
        {"host": "0.0.0.0"},
        {"host": "10.1.2.3", "basic_auth_user": "ls"},
        {"host": "::", "basic_auth_password": "pw"},
        {"host": "0.0.0.0", "basic_auth_user": "", "basic_auth_password": ""},
        {"host": "127.0.0.1", "basic_auth_user": "ls"},
    ],
)
def test_user_and_password_must_be_set_beyond_loopback(values: dict) -> None:
    with pytest.raises(SettingsError, match=r"IMIL_BASIC_AUTH_USER and IMIL_BASIC_AUTH_PASSWORD"):
        create_app(make_settings(**values), champion=FakeChampion(), events=FakeEvents())


def test_health_asks_for_nothing(guarded: FlaskClient) -> None:
    assert guarded.get("/health").status_code == 200


@pytest.mark.parametrize("path", ["/setup", "/predict", "/versions", "/job_status", "/nothing"])
def test_everything_else_asks_for_user_and_password(guarded: FlaskClient, path: str) -> None:
    for auth in (None, ("ls", "wrong"), ("other", "pw"), ("", "")):
        answer = guarded.post(path, json={}, auth=auth)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")
        assert "IMIL_BASIC_AUTH_USER" in answer.json["error"]


@pytest.mark.parametrize("header", ["Basic", "Basic !!!", "Bearer ls:pw", "Basic bHM=", "Basic //79"])
def test_a_broken_authorization_is_refused(guarded: FlaskClient, header: str) -> None:
    assert guarded.post("/setup", json={}, headers={"Authorization": header}).status_code == 401


def test_the_right_user_and_password_are_let_in(guarded: FlaskClient) -> None:
    answer = guarded.post("/setup", json=recorded("ml_setup"), auth=("ls", "pw"))
    assert answer.json == {"model_version": "version-of-13"}


def test_user_and_password_are_asked_for_on_loopback_too_once_they_are_set() -> None:
    settings = make_settings(basic_auth_user="ls", basic_auth_password="p\u00e4ss")
    client = create_app(settings, champion=FakeChampion(), events=FakeEvents()).test_client()
    assert client.post("/setup", json={}).status_code == 401
    assert client.post("/setup", json={}, auth=("ls", "p\u00e4ss")).status_code == 200
