"""The frame of the dashboard's pages: who may see them, their headers, errors, and names as they come."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import pytest
from dashboard_scene import make_scene
from flask import Flask
from flask.testing import FlaskClient
from loop_fakes import FakeLabelStudio, make_backend, make_dataset
from pages_seen import HOSTILE, Seen, class_named, name_it, version_named
from server_fakes import FakeChampion
from sqlalchemy import select

from imil_backend.label_studio.api.client import LabelStudio
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.states import CLOSED
from imil_backend.loop.dashboard.machine import checks
from imil_backend.loop.queues.engine import prepare
from imil_backend.server.app import create_app
from imil_backend.server.dashboard.pages import round_pages
from imil_backend.store.tables import Dataset, Round

pytestmark = pytest.mark.slow  # a database and plots
ROUND = "/dashboard/datasets/1/rounds/1"
PAGES = (
    "/dashboard/",
    "/dashboard/datasets/1/rounds",
    ROUND,
    "/dashboard/datasets/1/reasons",
    "/dashboard/datasets/1/samples/key-train-0",
    "/dashboard/datasets/1/samples/key-validation-0",
    "/dashboard/machine",
    "/dashboard/datasets/1/samples",
    "/dashboard/datasets/1/versions",
    "/dashboard/datasets/1/versions/1",
    "/dashboard/datasets/1/queue",
    "/dashboard/datasets/1/annotators",
)


NAMED = {  # what they name besides datasets, samples and groups
    "/dashboard/": {"version"},
    ROUND: {"class", "version", "annotator"},
    "/dashboard/datasets/1/reasons": {"class", "version"},
    "/dashboard/datasets/1/samples/key-train-0": {"class", "version", "annotator"},
    "/dashboard/datasets/1/samples/key-validation-0": {"class", "version"},
    "/dashboard/datasets/1/samples": {"class", "version", "annotator"},
    "/dashboard/datasets/1/versions": {"version"},
    "/dashboard/datasets/1/versions/1": {"class", "version"},
    "/dashboard/datasets/1/queue": {"class"},
    "/dashboard/datasets/1/annotators": {"annotator"},
}


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    backend = make_backend(tmp_path / "data")
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """With a round that was painted and judged, and annotators who have names as soon as they are told."""
    backend = make_backend(tmp_path_factory.mktemp("data"), dashboard_names=True)
    label_studio = FakeLabelStudio()
    backend.__dict__["label_studio"] = label_studio
    make_scene(backend, label_studio)
    with backend.store.begin() as session:
        session.get_one(Dataset, 1).policy = {"budget": 1.0, "fill_budget": True}  # the queue has something
    prepare(backend)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "examine", lambda *_, **__: [])  # the doctor asks the network
        patch.setattr(LabelStudio, "people", lambda _: {})
        yield backend
    backend.close()


def app_of(backend: Backend) -> Flask:
    return create_app(backend.settings, champion=FakeChampion())  # type: ignore[arg-type]


@pytest.fixture
def visitor(backend: Backend) -> FlaskClient:
    return app_of(backend).test_client()


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
    guarded = create_app(settings, champion=FakeChampion()).test_client()
    for path in ("/dashboard/", "/dashboard/datasets/1/rounds/1", "/dashboard/nothing"):
        answer = guarded.get(path)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")
        assert answer.mimetype == "text/html"
    assert guarded.get("/dashboard/", auth=("ls", "pw")).status_code == 200


@pytest.mark.parametrize("name", HOSTILE)
def test_names_stand_on_pages_as_text(site: Backend, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each by itself, so that one from right to left leaves what is beside it where it is."""
    people = {number: f"{name} annotator {number}" for number in (1, 4, 9)}
    monkeypatch.setattr(LabelStudio, "people", lambda _: people)
    name_it(site, name)
    named = {
        "class": [class_named(name, number) for number in (0, 1)],
        "version": [version_named(name, number) for number in (1, 2)],
        "annotator": list(people.values()),
    }
    visitor = app_of(site).test_client()
    for path in PAGES:
        answer = visitor.get(path)
        assert answer.status_code == 200, path
        seen = Seen(answer.text)
        assert name[:100] in seen.text, path
        assert not {"script", "style", "iframe"} & set(seen.tags)
        assert not [each for each in seen.attributes if each.startswith("on") or each == "style"]
        assert not [each for each in seen.addresses if each.startswith(("javascript:", "x"))]
        assert not [each for names in named.values() for each in names if each in seen.beside], path
        kinds = {kind for kind, names in named.items() if any(each in seen.text for each in names)}
        assert kinds == NAMED.get(path, set()), path


def test_all_links_and_pictures_of_the_pages_are_there(site: Backend) -> None:
    visitor = app_of(site).test_client()
    seen: set[str] = set()
    for path in PAGES:
        addresses = {urljoin(path, each) for each in Seen(visitor.get(path).text).addresses}
        seen |= {each.partition("#")[0] for each in addresses if each.startswith("/")}
    assert len(seen) > 20
    assert {address: status for address in seen if (status := visitor.get(address).status_code) != 200} == {}


def test_a_round_leads_to_its_versions_its_samples_and_all_that_changed(
    site: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page of samples knows what changed in the latest round: an earlier one only counts the rest."""
    monkeypatch.setattr(round_pages, "GALLERY", 1)
    visitor = app_of(site).test_client()
    found = {urljoin(ROUND, each) for each in Seen(visitor.get(ROUND).text).addresses}
    own = "/dashboard/datasets/1"
    assert {f"{own}/versions/1", f"{own}/versions/2", f"{own}/samples?round=1"} <= found
    assert f"{own}/samples?model=became-right" in found
    assert f"{own}/samples?model=became-wrong" not in found  # one, which is shown
    assert "4 of 24 samples." in visitor.get(f"{own}/samples?round=1").text
    with site.store.begin() as session:
        session.add(Round(dataset_id=1, number=2, state=CLOSED, version_id=2))
    earlier = Seen(visitor.get(ROUND).text)
    with site.store.begin() as session:
        session.delete(session.scalars(select(Round).where(Round.number == 2)).one())
    assert "largest change are shown, 1 more are not. Orange" in earlier.text
    assert f"{own}/samples?model=became-right" not in {urljoin(ROUND, each) for each in earlier.addresses}


def test_a_report_of_an_earlier_release_says_how_to_write_it_again(tmp_path: Path) -> None:
    backend, label_studio = make_backend(tmp_path / "data"), FakeLabelStudio()
    backend.__dict__["label_studio"] = label_studio
    make_scene(backend, label_studio, report=False)
    text = Seen(app_of(backend).test_client().get(ROUND).text).text
    assert "imil report --round 1" in text
    assert "What the verdict rests on" in text
    backend.close()


def test_plots_may_have_styles_and_pages_may_not(site: Backend) -> None:
    visitor = app_of(site).test_client()
    answer = visitor.get(f"{ROUND}/drawn/before-and-after-validation.svg")
    assert answer.mimetype == "image/svg+xml"
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; style-src 'unsafe-inline'"
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert visitor.get(f"{ROUND}/drawn/..%2Freport.md").status_code == 404
    assert visitor.get(f"{ROUND}/drawn/report.md").status_code == 404


def test_addresses_name_no_host_and_no_root_so_that_a_proxy_may_add_a_path(
    backend: Backend, visitor: FlaskClient
) -> None:
    dataset = make_dataset(backend)
    for path in ("/dashboard/", f"/dashboard/datasets/{dataset.id}/rounds", "/dashboard/nothing"):
        addresses = Seen(visitor.get(path).text).addresses
        assert addresses
        assert not [each for each in addresses if each.startswith("/") or ":" in each]
