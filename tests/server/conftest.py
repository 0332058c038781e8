from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient
from server_fakes import FakeChampion, FakeEvents, make_settings

from imil_backend.server.app import create_app


@pytest.fixture
def events() -> FakeEvents:
    return FakeEvents()


@pytest.fixture
def champion() -> FakeChampion:
    return FakeChampion()


@pytest.fixture
def app(events: FakeEvents, champion: FakeChampion) -> Flask:
    return create_app(make_settings(max_body_bytes=100_000), champion=champion, events=events)


@pytest.fixture
def client(app: Flask) -> Iterator[FlaskClient]:
    with app.test_client() as client:
        yield client


@pytest.fixture
def guarded(events: FakeEvents, champion: FakeChampion) -> Iterator[FlaskClient]:
    """A backend that other machines can reach; the user is ls, the password is pw."""
    settings = make_settings(host="0.0.0.0", basic_auth_user="ls", basic_auth_password="pw")
    with create_app(settings, champion=champion, events=events).test_client() as client:
        yield client
