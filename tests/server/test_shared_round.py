"""A signed link: it opens one round and its pictures for those who have no password, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
from dashboard_scene import make_scene
from flask.testing import FlaskClient
from loop_fakes import FakeLabelStudio, make_backend
from pages_seen import Seen
from server_fakes import FakeChampion

from imil_backend.loop.base.backend import Backend
from imil_backend.loop.evaluation import shared_round
from imil_backend.loop.evaluation.shared_round import shared_link
from imil_backend.server.app import create_app
from imil_backend.server.auth import is_open
from imil_backend.store.tables import Round

pytestmark = pytest.mark.slow  # a database and plots
OUTSIDE = "https://imil.example.org/imil"


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """That others can reach, with a round that was painted and judged."""
    settings = {
        "host": "0.0.0.0",
        "basic_auth_user": "ls",
        "basic_auth_password": "pw",
        "public_url": OUTSIDE,
    }
    backend, label_studio = make_backend(tmp_path_factory.mktemp("data"), **settings), FakeLabelStudio()
    backend.__dict__["label_studio"] = label_studio
    make_scene(backend, label_studio)
    yield backend
    backend.close()


@pytest.fixture
def visitor(backend: Backend) -> FlaskClient:
    return create_app(backend.settings, champion=FakeChampion()).test_client()  # type: ignore[arg-type]


def path_of(link: str | None) -> str:
    """Of a link, without what a proxy adds."""
    assert link is not None
    assert link.startswith(f"{OUTSIDE}/dashboard/shared/round?link=")
    return link.removeprefix(OUTSIDE)


def test_it_opens_its_round_and_its_pictures_without_a_password(
    backend: Backend, visitor: FlaskClient
) -> None:
    path = path_of(shared_link(backend, 1))
    answer = visitor.get(path)
    assert answer.status_code == 200
    seen = Seen(answer.text)
    assert "What your painting changed: Round 1 of films" in seen.text
    assert "Became right: 2 of 12 samples" in seen.text
    addresses = {urljoin(path, each) for each in seen.addresses if not each.startswith("#")}
    assert len([each for each in addresses if each.partition("?")[0].endswith(".jpg")]) == 6
    assert {each: visitor.get(each).status_code for each in addresses} == dict.fromkeys(addresses, 200)
    assert all(is_open(urlsplit(each).path) for each in addresses)


def test_it_opens_nothing_else(backend: Backend, visitor: FlaskClient) -> None:
    token = path_of(shared_link(backend, 1)).partition("=")[2]
    for path in ("/", "/datasets/1/rounds/1", "/datasets/1/samples/key-train-0", "/shared", "/shared/../"):
        assert visitor.get(f"/dashboard{path}?link={token}").status_code in {401, 404}, path
    for path in ("samples/key-train-0/image.jpg", "samples/key-validation-5/before.jpg", "drawn/report.md"):
        assert visitor.get(f"/dashboard/shared/{path}?link={token}").status_code == 404, path
    assert visitor.post(f"/dashboard/shared/round?link={token}").status_code == 405


@pytest.mark.parametrize("change", [lambda token: token[:-1], lambda token: "x" + token, lambda _: ""])
def test_a_link_that_is_not_ours_opens_nothing(backend: Backend, visitor: FlaskClient, change) -> None:
    token = change(path_of(shared_link(backend, 1)).partition("=")[2])
    for path in ("round", "drawn/before-and-after-validation.svg", "samples/key-validation-0/before.jpg"):
        answer = visitor.get(f"/dashboard/shared/{path}?link={token}")
        assert answer.status_code == 404
        assert "films" not in answer.text


def test_a_link_of_another_installation_opens_nothing(visitor: FlaskClient, tmp_path: Path) -> None:
    other = make_backend(tmp_path / "other", public_url=OUTSIDE)
    assert visitor.get(path_of(shared_link(other, 1))).status_code == 404
    other.close()


def test_a_link_expires(backend: Backend, visitor: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    path = path_of(shared_link(backend, 1))
    monkeypatch.setattr(shared_round, "LINK_DAYS", -1)
    answer = visitor.get(path)
    assert answer.status_code == 404
    assert "has expired" in answer.text


def test_there_is_none_where_others_cannot_reach_the_backend(tmp_path: Path) -> None:
    backend = make_backend(tmp_path / "data")
    assert shared_link(backend, 1) is None
    backend.close()


def test_a_round_without_a_version_is_shown_as_it_stands(backend: Backend, visitor: FlaskClient) -> None:
    with backend.store.begin() as session:
        round_ = Round(dataset_id=1, number=9, state="cancelled", mined_version_id=1)
        session.add(round_)
        session.flush()
        number = round_.id
    assert "brought no version" in visitor.get(path_of(shared_link(backend, number))).text
