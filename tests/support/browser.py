"""A real browser in front of the real Label Studio: log in, open a task, paint, submit.

Strokes are lists of points in fractions of the displayed image: a test can tell where paint must be.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.label_studio import RunningLabelStudio, missing

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Response

Point = tuple[float, float]
Stroke = Sequence[Point]

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# At 1600 x 1000 Label Studio cuts the edges of some images off.
VIEWPORT = {"width": 1600, "height": 1400}

CANVAS = ".konvajs-content canvas"
SHOWN_OR_GIVEN_UP = f"""() => document.querySelector('{CANVAS}') ? 'shown'
    : document.body.innerText.includes('There was an issue loading URL') && 'given up'"""
IMAGE_IS_SHOWN = """() => [...document.querySelectorAll('img[alt="image"]')].some(
    image => image.complete && image.naturalWidth > 0 && image.style.visibility === 'visible')"""
IMAGE_BOX = """() => {
    const image = [...document.querySelectorAll('img[alt="image"]')].find(
        element => element.naturalWidth > 0 && element.getBoundingClientRect().width > 0);
    if (!image) return null;  // the editor is putting it up again
    const box = image.getBoundingClientRect();
    return {x: box.x, y: box.y, width: box.width, height: box.height,
            naturalWidth: image.naturalWidth, naturalHeight: image.naturalHeight};
}"""
SCROLL_TO_TOP = """() => {
    let element = document.querySelector('.konvajs-content');
    while (element = element.parentElement) element.scrollTop = 0;
}"""
POINT_IS_ON_STAGE = """([x, y]) => {
    const element = document.elementFromPoint(x, y);
    return Boolean(element && element.closest('.konvajs-content'));
}"""
# Label Studio shows its annotation store as window.Htx.
POINTS_PAINTED = """() => (window.Htx?.annotationStore?.selected?.regions ?? [])
    .flatMap(region => region.touches ?? []).reduce((sum, touch) => sum + touch.points.length, 0)"""


@dataclass(frozen=True)
class ImageBox:
    """Where the image is on the page, in CSS pixels, and its natural size."""

    x: float
    y: float
    width: float
    height: float
    natural_width: int
    natural_height: int

    def to_page(self, point: Point) -> Point:
        return self.x + point[0] * self.width, self.y + point[1] * self.height


class Editor:
    """One browser page, logged in as a clinician would be."""

    def __init__(self, page: Page, label_studio: RunningLabelStudio) -> None:
        self.page = page
        self.label_studio = label_studio

    def log_in(self) -> None:
        page = self.page
        page.goto(f"{self.label_studio.url}/user/login/")
        page.fill("input[name=email]", self.label_studio.username)
        page.fill("input[name=password]", self.label_studio.password)
        page.click("button[type=submit]")
        page.wait_for_url(lambda url: "/user/login" not in url)

    def open_task(self, project_id: int, task_id: int) -> None:
        self._open(f"/projects/{project_id}/data?task={task_id}")

    def open_label_stream(self, project_id: int) -> None:
        """The view with the Skip button, which shows one task after the other."""
        self._open(f"/projects/{project_id}/data?labeling=1")

    def read_instructions(self) -> str:
        """The project's instructions, which lie over the first task of the label stream, and close them."""
        body = self.page.locator(".lsf-modal-ls__body")
        text = body.inner_text()
        self.page.click('[aria-label="Close modal"]')
        body.wait_for(state="detached")
        return text

    def _open(self, path: str) -> None:
        self.page.goto(self.label_studio.url + path)
        self.wait_until_shown()

    def wait_until_shown(self) -> None:
        """Until the editor shows a task's image; reloaded once if it gave the image up, as people do.

        Label Studio puts an empty annotation up while it fetches a task's annotations. An image that was
        being loaded for the empty one is given up for good in one case of fifteen on a machine at full load
        (always a task that somebody else had answered), with mobx's "no longer part of a state tree" in the
        console.
        """
        if self.page.wait_for_function(SHOWN_OR_GIVEN_UP, timeout=60_000).json_value() == "given up":
            self.page.reload()
        self.page.wait_for_selector(CANVAS, timeout=60_000)
        self.page.wait_for_function(IMAGE_IS_SHOWN, timeout=60_000)
        self._wait_until_still()

    def _wait_until_still(self) -> None:
        """The stage is laid out again when the image has come; wait until its box is the same twice."""
        before, now = None, self.image_box()
        while before != now:
            self.page.wait_for_timeout(150)
            before, now = now, self.image_box()

    def image_box(self) -> ImageBox:
        return ImageBox(*self.page.wait_for_function(IMAGE_BOX).json_value().values())

    def select_label(self, label: str) -> None:
        self.page.locator(".lsf-label", has_text=label).first.click()

    def choose(self, choice: str) -> None:
        self.page.locator(".lsf-choice", has_text=choice).first.click()

    def select_region(self, label: str) -> None:
        """The region of this label in the list beside the image; the eraser works on the one selected."""
        self.page.locator(".lsf-outliner-item", has_text=label).first.click()

    def wait_for_regions(self, count: int) -> None:
        """Until so many are there, those pre-filled from a prediction too."""
        self.page.wait_for_function(
            f"() => window.Htx?.annotationStore?.selected?.regions.length === {count}", timeout=60_000
        )

    def use_tool(self, tool: str) -> None:
        """`tool` is an aria-label: brush-tool, eraser, zoom-in, rotate-right, brightness, contrast ..."""
        self.page.click(f'[aria-label="{tool}"]')

    def paint(self, strokes: Sequence[Stroke], *, counts: bool = True) -> ImageBox:
        """Drag the selected tool along each stroke; returns the box that the fractions refer to.

        `counts`: wait until the editor has counted each; it does not count what is erased of a prediction.
        """
        # Clicking a label scrolls the image under the tab bar, where strokes would be lost without a word.
        self.page.evaluate(SCROLL_TO_TOP)
        self._wait_until_still()
        box = self.image_box()
        for stroke in strokes:
            points = [box.to_page(point) for point in stroke]
            for point in points:
                # Something may cover it for a moment, such as a message or the editor's loading.
                self.page.wait_for_function(POINT_IS_ON_STAGE, arg=list(point), timeout=10_000)
            painted = self.page.evaluate(POINTS_PAINTED)
            self.page.mouse.move(*points[0])
            self.page.mouse.down()
            for point in points[1:]:
                self.page.mouse.move(*point, steps=12)
            self.page.mouse.up()
            if counts:
                self.page.wait_for_function(f"({POINTS_PAINTED})() > {painted}")
        return box

    def drag(self, begin: Point, end: Point) -> ImageBox:
        """Drag the selected tool, a box for instance, from one point to another."""
        self.page.evaluate(SCROLL_TO_TOP)
        self._wait_until_still()
        box = self.image_box()
        self.page.mouse.move(*box.to_page(begin))
        self.page.mouse.down()
        self.page.mouse.move(*box.to_page(end), steps=6)
        self.page.mouse.up()
        self.page.wait_for_function("() => window.Htx.annotationStore.selected.regions.length > 0")
        return box

    def next_task(self) -> None:
        """Wait until the label stream shows the task after the one that was submitted."""
        self.page.wait_for_function("() => window.Htx.annotationStore.selected.regions.length === 0")
        self.page.wait_for_function(IMAGE_IS_SHOWN, timeout=60_000)
        self._wait_until_still()

    def submit(self) -> dict[str, Any]:
        """Press Submit; returns the annotation as Label Studio answered it."""
        return self._press("submit")

    def update(self) -> dict[str, Any]:
        return self._press("update")

    def skip(self) -> dict[str, Any]:
        return self._press("skip")

    def _press(self, button: str) -> dict[str, Any]:
        with self.saving() as saved:
            self.page.click(f'[data-testid="bottombar-{button}-button"]')
        return saved()

    @contextmanager
    def saving(self) -> Iterator[Callable[[], dict[str, Any]]]:
        """Wait for an annotation to be saved by what is done inside; gives it as Label Studio answered."""

        def saves_annotation(response: Response) -> bool:
            return "/annotations" in response.url and response.request.method in {"POST", "PATCH"}

        def saved() -> dict[str, Any]:
            assert answer.value.ok, answer.value.status
            annotation: dict[str, Any] = answer.value.json()
            return annotation

        with self.page.expect_response(saves_annotation, timeout=60_000) as answer:
            yield saved


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's chromium."""
    from playwright.sync_api import sync_playwright

    executable = Path(os.environ.get("IMIL_TEST_CHROMIUM", "/usr/bin/chromium"))
    if not executable.exists():
        missing(f"A browser ({executable})", "IMIL_TEST_CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def browser_page(browser: Browser, label_studio: RunningLabelStudio) -> Iterator[Callable[[], Editor]]:
    """Makes pages of a browser, each logged in to Label Studio and closed after the test."""
    with ExitStack() as stack:

        def make() -> Editor:
            context = stack.enter_context(browser.new_context(viewport=VIEWPORT))  # type: ignore[arg-type]
            editor = Editor(context.new_page(), label_studio)
            editor.log_in()
            return editor

        yield make
