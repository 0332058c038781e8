"""The dashboard for people who are logged in at a proxy."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Flask, request
from server_fakes import FakeChampion, FakeEvents, make_settings
from support.conditions import wait_until
from support.label_studio import free_port, is_listening
from support.nginx import PASSWORD, USER, running_nginx
from werkzeug.exceptions import Unauthorized

from imil_backend.config import load_settings
from imil_backend.errors import SettingsError
from imil_backend.server.app import GATE, create_app
from imil_backend.server.auth import Caller

OWN_PASSWORD = {"basic_auth_user": "ls", "basic_auth_password": "pw"}
PROXY = "10.0.0.5"
NAMED = {"X-Remote-User": USER}
SERVER = """
    listen 127.0.0.1:{port};
    location / {{
      auth_basic "clinic"; auth_basic_user_file {folder}/users;
      proxy_pass http://127.0.0.1:{backend}; proxy_bind 127.0.0.2;
      proxy_set_header X-Remote-User $remote_user; proxy_set_header Authorization "";
    }}
"""


def application(**values: Any) -> Flask:
    return create_app(make_settings(**OWN_PASSWORD, **values), champion=FakeChampion(), events=FakeEvents())


@pytest.fixture
def app() -> Flask:
    return application(dashboard_user_header="X-Remote-User", dashboard_proxies=(f"{PROXY}/32", "fd00::/64"))


def is_let_in(app: Flask, sender: str, headers: dict[str, str], path: str = "/dashboard/") -> bool:
    with app.test_request_context(path, headers=headers, environ_base={"REMOTE_ADDR": sender}):
        try:
            return app.extensions[GATE].check(request) is Caller.USER
        except Unauthorized:
            return False


@pytest.mark.parametrize("sender", [PROXY, f"::ffff:{PROXY}", "fd00::7"])
def test_whom_the_proxy_names_is_let_in(app: Flask, sender: str) -> None:
    assert is_let_in(app, sender, NAMED)


@pytest.mark.parametrize("sender", ["10.0.0.6", "127.0.0.1", "fd01::7", ""])
def test_from_elsewhere_the_header_says_nothing(app: Flask, sender: str) -> None:
    assert not is_let_in(app, sender, NAMED)


@pytest.mark.parametrize("name", ["", " ", "-", "(null)"])
def test_who_is_not_logged_in_at_the_proxy_is_not_let_in(app: Flask, name: str) -> None:
    assert not is_let_in(app, PROXY, {"X-Remote-User": name})
    assert not is_let_in(app, PROXY, {})


@pytest.mark.parametrize("path", ["/predict", "/webhook", "/metrics", "/dashboards", "/nothing"])
def test_the_proxy_opens_nothing_but_the_dashboard(app: Flask, path: str) -> None:
    assert not is_let_in(app, PROXY, NAMED, path)


def test_without_proxies_the_header_says_nothing() -> None:
    assert not is_let_in(application(), PROXY, NAMED)


@pytest.mark.parametrize(
    "values", [{"dashboard_user_header": "X-Remote-User"}, {"dashboard_proxies": ("10.0.0.0/8",)}]
)
def test_header_and_proxies_are_set_together(values: dict) -> None:
    with pytest.raises(SettingsError, match="set both"):
        application(**values)


@pytest.mark.parametrize("proxies", ["proxy.example.org", "0.0.0.0/0", "10.0.0.5,::/0"])
def test_proxies_that_are_no_addresses_or_all_of_them_are_refused(proxies: str) -> None:
    with pytest.raises(SettingsError, match="IMIL_DASHBOARD_PROXIES"):
        load_settings(_env_file=None, dashboard_proxies=proxies)


@pytest.fixture
def behind_nginx(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The URL of nginx, which asks for a password and calls from 127.0.0.2, and the backend's own."""
    own = free_port()
    environment = os.environ | {
        "IMIL_DATA_DIR": str(tmp_path / "data"),
        "IMIL_PORT": str(own),
        "IMIL_BASIC_AUTH_USER": "ls",
        "IMIL_BASIC_AUTH_PASSWORD": "pw",
        "IMIL_DASHBOARD_USER_HEADER": "X-Remote-User",
        "IMIL_DASHBOARD_PROXIES": "127.0.0.2",
    }
    serve = [str(Path(sys.executable).parent / "imil"), "serve"]
    with (
        running_nginx(tmp_path, SERVER, backend=own) as port,
        subprocess.Popen(serve, env=environment, cwd=tmp_path) as backend,
    ):
        try:
            wait_until(lambda: is_listening(own), 60)
            yield f"http://127.0.0.1:{port}", f"http://127.0.0.1:{own}"
        finally:
            backend.terminate()


@pytest.mark.slow
def test_a_real_proxy_opens_the_real_dashboard(behind_nginx: tuple[str, str]) -> None:
    proxy, backend = behind_nginx
    page = requests.get(f"{proxy}/dashboard/", auth=(USER, PASSWORD), timeout=30)
    assert page.status_code == 200
    assert "<main" in page.text
    assert requests.get(f"{proxy}/dashboard/", headers=NAMED, timeout=30).status_code == 401  # nginx's own
    assert requests.get(f"{backend}/dashboard/", headers=NAMED, timeout=30).status_code == 401
    assert requests.get(f"{proxy}/versions", auth=(USER, PASSWORD), timeout=30).status_code == 401
