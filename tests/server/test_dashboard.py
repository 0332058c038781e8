"""The frame of the dashboard's pages: who may see them, their headers, errors, and names as they come."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from loop_fakes import make_backend, make_dataset, make_version

from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.states import CLOSED
from imil_backend.server.app import create_app
from imil_backend.store.tables import Dataset, Round

HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "{{ 7 * 7 }}{% raw %}",
    "\u202ekcatta \u05d0\u05d1\u05d2 \u200f",
    "n" * 100,
]


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    backend = make_backend(tmp_path / "data")
    yield backend
    backend.close()


@pytest.fixture
def visitor(backend: Backend) -> FlaskClient:
    return create_app(backend.settings).test_client()


class Seen(HTMLParser):
    """The elements, addresses and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.attributes: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        self.addresses += [value or "" for name, value in attrs if name in {"href", "src"}]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_an_empty_installation_says_what_to_do(visitor: FlaskClient) -> None:
    for path in ("/dashboard", "/dashboard/"):
        answer = visitor.get(path)
        assert answer.status_code == 200
        assert "imil import" in answer.text


def test_every_answer_forbids_scripts_foreign_content_and_caching(visitor: FlaskClient) -> None:
    for path in ("/dashboard/", "/dashboard/nothing", "/dashboard/assets/dashboard.css"):
        headers = visitor.get(path).headers
        assert headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self'")
        assert headers["Cache-Control"] == "private, no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Content-Security-Policy" not in visitor.get("/health").headers


def test_errors_are_pages_here_and_json_elsewhere(visitor: FlaskClient) -> None:
    for path in ("/dashboard/nothing", "/dashboard/datasets/7/rounds"):
        answer = visitor.get(path)
        assert (answer.status_code, answer.mimetype) == (404, "text/html")
    assert "There is no dataset 7" in answer.text
    assert visitor.post("/dashboard/").status_code == 405
    assert visitor.get("/nothing").mimetype == "application/json"


def test_the_dashboard_asks_for_user_and_password(backend: Backend) -> None:
    settings = backend.settings.model_copy(update={"basic_auth_user": "ls", "basic_auth_password": "pw"})
    settings = type(settings)(**{**settings.model_dump(), "_env_file": None, "basic_auth_password": "pw"})
    guarded = create_app(settings).test_client()
    for path in ("/dashboard/", "/dashboard/assets/dashboard.css", "/dashboard/nothing"):
        answer = guarded.get(path)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")
        assert answer.mimetype == "text/html"
    assert guarded.get("/dashboard/", auth=("ls", "pw")).status_code == 200


@pytest.mark.parametrize("name", HOSTILE)
def test_names_stand_on_pages_as_text(backend: Backend, visitor: FlaskClient, name: str) -> None:
    dataset = make_dataset(backend)
    version = make_version(backend, dataset)
    with backend.store.begin() as session:
        session.get_one(Dataset, dataset.id).name = name
        session.add(
            Round(
                dataset_id=dataset.id, number=1, state=CLOSED, version_id=version.id,
                verdict={"verdict": "undecided", "reason": name},
            )
        )  # fmt: skip
    for path in ("/dashboard/", f"/dashboard/datasets/{dataset.id}/rounds"):
        seen = Seen(visitor.get(path).text)
        assert name in seen.text
        assert not {"script", "img", "style"} & set(seen.tags)
        assert not [each for each in seen.attributes if each.startswith("on") or each == "style"]


def test_addresses_name_no_host_and_no_root_so_that_a_proxy_may_add_a_path(
    backend: Backend, visitor: FlaskClient
) -> None:
    dataset = make_dataset(backend)
    for path in ("/dashboard/", f"/dashboard/datasets/{dataset.id}/rounds", "/dashboard/nothing"):
        addresses = Seen(visitor.get(path).text).addresses
        assert addresses
        assert not [each for each in addresses if each.startswith("/") or ":" in each]
