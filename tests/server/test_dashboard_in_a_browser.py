"""The dashboard in a real browser: no policy is broken, no page is wider than its window, axe is content."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import pytest
from dashboard_scene import make_scene
from loop_fakes import FakeLabelStudio, make_backend
from pages_seen import HOSTILE, name_it
from server_fakes import FakeChampion
from support.label_studio import free_port
from werkzeug.serving import make_server

from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.states import CANCELLED, CLOSED
from imil_backend.loop.dashboard.machine import checks
from imil_backend.loop.queues.engine import prepare
from imil_backend.server.app import create_app
from imil_backend.server.dashboard.copy_writer import write_copy
from imil_backend.server.dashboard.report import round_report
from imil_backend.store.tables import Round

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.npm]
AXE = "axe-core@4.10"
LOADED = "() => [...document.images].every(image => image.complete && image.naturalWidth > 0)"
EAGER = "() => document.querySelectorAll('img[loading]').forEach(image => { image.loading = 'eager' })"
# axe reads style sheets by itself, which a browser allows no page of a folder.
SERIOUS = """async () => (await axe.run({preload: location.protocol !== 'file:'})).violations
    .filter(found => ['serious', 'critical'].includes(found.impact))
    .map(found => [found.id, found.nodes[0].html])"""
LINKS = "() => [...document.querySelectorAll('nav a[href], main a[href]')].map(each => each.href)"
WINDOWS = [(1280, "light"), (390, "dark")]
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
    """With a round that was painted and judged, and where it is served."""
    backend, label_studio = make_backend(tmp_path_factory.mktemp("data")), FakeLabelStudio()
    backend.__dict__["label_studio"] = label_studio
    make_scene(backend, label_studio)
    prepare(backend)
    with pytest.MonkeyPatch.context() as patch, served(backend) as url:
        patch.setattr(checks, "examine", lambda *_, **__: [])  # the doctor asks the network
        yield backend, url
    backend.close()


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Deque's rules of accessibility, through the npm client."""
    npm, folder = shutil.which("npm"), tmp_path_factory.mktemp("axe")
    if npm is None:
        pytest.skip("npm is not installed")
    subprocess.run([npm, "install", "--no-audit", "--no-fund", "--prefix", folder, AXE], check=True)
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture
def look(browser: Browser, axe: str) -> Callable[..., list[str]]:
    """Opens a page in windows and schemes, checks it, and returns its links."""

    def in_window(url: str, width: int, scheme: Any) -> list[str]:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page, said = context.new_page(), []
        page.on("console", lambda message: said.append(message.text))
        page.goto(url)
        _check(page, axe, f"{url} at {width}, {scheme}")
        links: list[str] = page.evaluate(LINKS)
        context.close()
        assert said == [], url
        return links

    def in_windows(url: str, windows: Any = WINDOWS) -> list[str]:
        return [link for width, scheme in windows for link in in_window(url, width, scheme)]

    return in_windows


def _check(page: Page, axe: str, where: str) -> None:
    page.evaluate(EAGER)
    page.wait_for_function(LOADED)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), where
    page.evaluate(axe)
    assert page.evaluate(SERIOUS) == [], where


def test_axe_finds_what_is_not_sound(browser: Browser, axe: str, tmp_path: Path) -> None:
    (tmp_path / "bad.html").write_text("<title>Bad</title><p style='color:#ccc;background:#fff'>pale</p>")
    with browser.new_context() as context:
        page = context.new_page()
        page.goto((tmp_path / "bad.html").as_uri())
        with pytest.raises(AssertionError, match="color-contrast"):
            _check(page, axe, "bad")


def test_every_page_that_can_be_reached_is_sound(
    site: tuple[Backend, str], look: Callable[..., list[str]]
) -> None:
    _, url = site
    look_at_all(f"{url}/dashboard/", look)


def look_at_all(start: str, look: Callable[..., list[str]]) -> None:
    """All kinds of pages that links lead to; of several samples or rounds one."""
    todo, kinds, home = [start], set(), start.rpartition("/")[0]
    while todo:
        address = todo.pop()
        path = urlsplit(address).path.removesuffix(".html")
        kind = "/".join("*" if any(map(str.isdigit, part)) else part for part in path.split("/"))
        if not address.startswith(home) or kind in kinds or "." in path:
            continue
        kinds.add(kind)
        todo += [urljoin(address, link).partition("#")[0] for link in look(address)]
    assert len(kinds) >= 11, kinds


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
    look(f"{url}/dashboard/datasets/1/samples/key-train-0", [(390, "light")])


def test_the_report_is_sound_as_a_file(
    site: tuple[Backend, str], look: Callable[..., list[str]], tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    path.write_text(round_report(site[0], 1, 1), encoding="utf-8")
    look(path.as_uri())


def test_an_empty_installation_is_sound(look: Callable[..., list[str]], tmp_path: Path) -> None:
    backend = make_backend(tmp_path / "data")
    with served(backend) as url:
        look(f"{url}/dashboard/")
    backend.close()
