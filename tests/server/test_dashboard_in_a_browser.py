"""The dashboard in a real browser: no policy is broken, no page is wider than its window, axe is content."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import requests
from dashboard_scene import EPOCHS, make_scene
from loop_fakes import FakeLabelStudio, make_backend, make_dataset
from pages_seen import HOSTILE, name_it
from server_fakes import FakeChampion
from support.label_studio import free_port
from support.looking import check, look_at_all
from werkzeug.serving import make_server

from imil_backend.label_studio.api.client import LabelStudio
from imil_backend.learning.child.reporting import Reporter
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.states import CANCELLED, CLOSED, TRAINING
from imil_backend.loop.dashboard.machine import checks
from imil_backend.loop.evaluation.shared_round import shared_link
from imil_backend.loop.queues.engine import prepare
from imil_backend.loop.versions.training_jobs import directory_of
from imil_backend.server.app import create_app
from imil_backend.server.dashboard.copy_writer import write_copy
from imil_backend.server.dashboard.report import round_report
from imil_backend.store.tables import Dataset, Round

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.browser, pytest.mark.npm]
ROUND = "/dashboard/datasets/1/rounds/1"


@contextmanager
def served(backend: Backend) -> Iterator[str]:
    port = free_port()
    server = make_server("127.0.0.1", port, create_app(backend.settings, champion=FakeChampion()), True)  # type: ignore[arg-type]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Backend, str]]:
    """With a round that was painted and judged by annotators of hostile names, and where it is served."""
    settings = {"public_url": "http://imil.example.org", "dashboard_names": True}
    backend, label_studio = make_backend(tmp_path_factory.mktemp("data"), **settings), FakeLabelStudio()
    backend.__dict__["label_studio"] = label_studio
    make_scene(backend, label_studio)
    with backend.store.begin() as session:
        session.get_one(Dataset, 1).policy = {"budget": 1.0, "fill_budget": True}  # the queue has something
    prepare(backend)
    with pytest.MonkeyPatch.context() as patch, served(backend) as url:
        patch.setattr(checks, "examine", lambda *_, **__: [])  # the doctor asks the network
        patch.setattr(LabelStudio, "people", lambda _: dict(zip((9, 4, 1), HOSTILE[2:], strict=True)))
        yield backend, url
    backend.close()


def test_axe_finds_what_is_not_sound(browser: Browser, axe: str, tmp_path: Path) -> None:
    (tmp_path / "bad.html").write_text("<title>Bad</title><p style='color:#ccc;background:#fff'>pale</p>")
    with browser.new_context() as context:
        page = context.new_page()
        page.goto((tmp_path / "bad.html").as_uri())
        with pytest.raises(AssertionError, match="color-contrast"):
            check(page, axe, "bad")


def test_every_page_that_can_be_reached_is_sound(
    site: tuple[Backend, str], look: Callable[..., list[str]]
) -> None:
    _, url = site
    look_at_all(f"{url}/dashboard/", look)


def test_a_static_copy_is_sound_without_a_server(
    site: tuple[Backend, str], look: Callable[..., list[str]], tmp_path: Path
) -> None:
    look_at_all(write_copy(site[0], tmp_path / "copy").start.as_uri(), look)


@pytest.mark.parametrize("verdict", ["promote", "reject", "undecided", None])
def test_a_round_is_sound_whatever_became_of_it(
    site: tuple[Backend, str], look: Callable[..., list[str]], verdict: str | None
) -> None:
    """None: it was cancelled."""
    backend, url = site
    with backend.store.begin() as session:
        round_ = session.get_one(Round, 1)
        round_.verdict = {**(round_.verdict or {}), "verdict": verdict} if verdict else None
        round_.state = CLOSED if verdict else CANCELLED
    look(f"{url}{ROUND}", [(1280, "light")])


def test_names_that_would_be_more_do_nothing_and_widen_nothing(
    site: tuple[Backend, str], look: Callable[..., list[str]]
) -> None:
    backend, url = site
    for name in HOSTILE:
        name_it(backend, name)
        look(f"{url}{ROUND}", [(390, "dark")])
    for page in (
        "samples/key-train-0",
        "samples",
        "queue",
        "versions",
        "versions/1",
        "annotators",
        "reasons",
    ):
        look(f"{url}/dashboard/datasets/1/{page}", [(390, "light")])
    look(f"{url}/dashboard/", [(390, "light")])


def test_what_a_signed_link_opens_is_sound(site: tuple[Backend, str], look: Callable[..., list[str]]) -> None:
    backend, url = site
    link = urlsplit(shared_link(backend, 1) or "")
    look(f"{url}{link.path}?{link.query}")


def test_the_card_of_a_running_training_is_sound(
    site: tuple[Backend, str], look: Callable[..., list[str]]
) -> None:
    """As one that waits for the worker, and in its third epoch."""
    backend, url = site
    with backend.store.begin() as session:
        session.add(
            Round(dataset_id=1, number=2, state=TRAINING, mined_version_id=1, version_name="films-round2")
        )
    look(f"{url}/dashboard/machine", [(390, "light")])
    reporter = Reporter(directory_of(backend, "films-round2"), 4, enabled=True)
    reporter.set_history([{**each, "images_per_second": 40.0} for each in EPOCHS])
    reporter.begin("training", total=8, epoch=3)
    look(f"{url}/dashboard/machine")
    assert "epoch 3 of 4" in requests.get(f"{url}/dashboard/machine", timeout=60).text


def test_the_report_is_sound_as_a_file(
    site: tuple[Backend, str], look: Callable[..., list[str]], tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    path.write_text(round_report(site[0], 1, 1), encoding="utf-8")
    look(path.as_uri())


def test_an_empty_installation_is_sound_and_so_is_a_dataset_before_its_baseline(
    look: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "examine", lambda *_, **__: [])
    backend = make_backend(tmp_path / "data")
    prepare(backend)
    with served(backend) as url:
        look(f"{url}/dashboard/")
        look(f"{url}/dashboard/machine", [(390, "dark")])
        make_dataset(backend)
        for page in ("rounds", "reasons", "samples", "versions", "queue", "annotators"):
            look(f"{url}/dashboard/datasets/1/{page}", [(390, "light")])
    backend.close()
