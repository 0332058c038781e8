from __future__ import annotations

import base64

import pytest
from flask.testing import FlaskClient
from requests import Request
from requests.auth import HTTPBasicAuth
from server_fakes import FakeChampion, FakeEvents, make_settings, recorded

from imil_backend.config import load_settings
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


@pytest.mark.parametrize(
    ("values", "host", "ours"),
    [
        ({}, "localhost", True),
        ({}, "LOCALHOST:9090", True),
        ({}, "127.0.0.1:9090", True),
        ({}, "[::1]:9090", True),
        ({}, "evil.example", False),
        ({}, "localhost.evil.example", False),
        ({}, "localhost@evil.example:9090", False),
        ({}, "10.1.2.3:9090", False),
        ({}, "[::1", False),
        ({}, "", False),
        ({"public_url": "https://imil.example.org/x"}, "imil.example.org", True),
        ({"host": "::1"}, "[::1]:9090", True),
        ({"host": "0.0.0.0"}, "10.1.2.3:9090", True),
        ({"host": "0.0.0.0"}, "evil.example", False),
        ({"host": "::"}, "[fd00::1]:9090", True),
        ({"host": "10.1.2.3"}, "10.1.2.3:9090", True),
        ({"host": "10.1.2.3"}, "10.1.2.4:9090", False),
    ],
)
def test_only_who_calls_us_by_a_name_of_ours_is_answered(values: dict, host: str, ours: bool) -> None:
    settings = make_settings(basic_auth_user="ls", basic_auth_password="pw", **values)
    client = create_app(settings, champion=FakeChampion(), events=FakeEvents()).test_client()
    for path in ("/health", "/nothing"):
        answer = client.get(path, headers={"Host": host}, auth=("ls", "pw"))
        assert (answer.status_code == 400) != ours
    assert ours or "IMIL_PUBLIC_URL" in answer.json["error"]


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


@pytest.mark.parametrize("password", ["p\u00e4ss w\u00f6rt", "\u00a3\u00a7\u00b0", "a:b:", "\u00ff" * 40])
def test_a_password_beyond_ascii_is_known_as_label_studio_and_as_browsers_send_it(password: str) -> None:
    settings = make_settings(basic_auth_user="\u00e4rzte", basic_auth_password=password)
    client = create_app(settings, champion=FakeChampion(), events=FakeEvents()).test_client()

    def status(sent: bytes) -> int:
        header = "Basic " + base64.b64encode(sent).decode()
        return client.post("/setup", json={}, headers={"Authorization": header}).status_code

    by_label_studio = HTTPBasicAuth("\u00e4rzte", password)(Request("POST", "http://a.b").prepare()).headers
    assert client.post("/setup", json={}, headers=dict(by_label_studio)).status_code == 200
    for encoding in ("latin-1", "utf-8"):
        assert status(f"\u00e4rzte:{password}".encode(encoding)) == 200
        assert status(f"\u00e4rzte:{password}x".encode(encoding)) == 401


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"basic_auth_password": "\u0142\u00f3d\u017a-1"}, r"IMIL_BASIC_AUTH_PASSWORD: .*outside Latin-1"),
        ({"basic_auth_password": "\u5bc6\u7801"}, r"IMIL_BASIC_AUTH_PASSWORD: .*outside Latin-1"),
        ({"basic_auth_password": "10 \u20ac"}, r"IMIL_BASIC_AUTH_PASSWORD: .*outside Latin-1"),
        ({"basic_auth_password": "secret "}, r"IMIL_BASIC_AUTH_PASSWORD: .*space"),
        ({"basic_auth_password": "sec\nret"}, r"IMIL_BASIC_AUTH_PASSWORD: .*invisible"),
        ({"basic_auth_user": "\u533b\u751f"}, r"IMIL_BASIC_AUTH_USER: .*outside Latin-1"),
        ({"basic_auth_user": "label:studio"}, r"IMIL_BASIC_AUTH_USER: .*colon"),
        ({"webhook_secrets": "good,schl\u00fcssel-\u20ac"}, r"IMIL_WEBHOOK_SECRETS: .*outside Latin-1"),
        ({"label_studio_api_key": "0123\u200b4567"}, r"API_KEY: .*no Label Studio token.*copy it again"),
    ],
)
def test_what_label_studio_cannot_send_is_refused_at_the_start_with_the_reason(
    values: dict[str, str], words: str
) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        load_settings(_env_file=None, **values)
    assert not any(value in str(caught.value) for value in values.values())
