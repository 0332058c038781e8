"""Pages in a real browser: no policy is broken, none is wider than its window, axe is content."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

AXE = "axe-core@4.10"
LOADED = "() => [...document.images].every(image => image.complete && image.naturalWidth > 0)"
EAGER = "() => document.querySelectorAll('img[loading]').forEach(image => { image.loading = 'eager' })"
# axe reads style sheets by itself, which a browser allows no page of a folder.
SERIOUS = """async () => (await axe.run({preload: location.protocol !== 'file:'})).violations
    .filter(found => ['serious', 'critical'].includes(found.impact))
    .map(found => [found.id, found.nodes[0].html])"""
LINKS = "() => [...document.querySelectorAll('nav a[href], main a[href]')].map(each => each.href)"
WINDOWS = [(1280, "light"), (390, "dark")]


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
        check(page, axe, f"{url} at {width}, {scheme}")
        links: list[str] = page.evaluate(LINKS)
        context.close()
        assert said == [], url
        return links

    def in_windows(url: str, windows: Any = WINDOWS) -> list[str]:
        return [link for width, scheme in windows for link in in_window(url, width, scheme)]

    return in_windows


def check(page: Page, axe: str, where: str) -> None:
    """Its pictures are loaded, it fits, and axe finds nothing serious."""
    page.evaluate(EAGER)
    page.wait_for_function(LOADED)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), where
    page.evaluate(axe)
    assert page.evaluate(SERIOUS) == [], where


def look_at_all(start: str, look: Callable[..., list[str]], windows: Any = WINDOWS) -> None:
    """All kinds of pages that links lead to; of several samples or rounds one."""
    todo, kinds, home = [start], set(), start.rpartition("/")[0]
    while todo:
        address = todo.pop()
        path = urlsplit(address).path.removesuffix(".html")
        kind = "/".join("*" if any(map(str.isdigit, part)) else part for part in path.split("/"))
        if not address.startswith(home) or kind in kinds or "." in path:
            continue
        kinds.add(kind)
        todo += [urljoin(address, link).partition("#")[0] for link in look(address, windows)]
    assert len(kinds) >= 11, kinds
