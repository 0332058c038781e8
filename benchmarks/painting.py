"""Seconds and strokes of scripted hands in the real editor: with proposed masks, and painting from nothing.

    python -m benchmarks painting [--films N] [--xrays ZIP] [--json FILE]

Starts a real Label Studio, `imil serve` and `imil worker` on directories of their own, and drives the editor
in a real browser (Debian's chromium, with the tests' helpers). A dozen tasks of the first round are answered
through the API with the known lungs, painted as relevant; from these the worker proposes masks for the rest,
and proposes them anew as the round goes on. The hands then answer N tasks, each of them twice:

- with its proposal they look, paint what is missing as relevant and what is too much as irrelevant until the
  Dice coefficient with the true lungs is 0.95 (nothing where it is), and press Ctrl+Enter;
- then they delete all, which does not count, paint the lungs from nothing in rows with the largest brush,
  a stroke a lung, to the same Dice coefficient, and update the answer. Then the first answer is put back, for
  the worker to learn from.

`hand` counts what they did at a fixed speed: 2 s to look, 0.4 s for a key, a click or a stroke's beginning,
800 px/s on the screen. `waited` is what Label Studio took on top, on this machine, to show the task and to
save it. Means over the tasks with 95 % intervals (bootstrap over tasks; ratios are of means, in pairs); Dice
is of what Label Studio has saved, with the true lungs. All masks are simulated.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.hands import GOOD, Done, Plan, Point, correction, from_nothing, presses
from benchmarks.painted_round import (
    PAINTED,
    prepare,
    proposal_of,
    round_of,
    running_label_studio,
    write_xrays,
)
from benchmarks.report import archive_of, machine, table
from imil_backend.images.masks.masks import decode_rle, dice
from imil_backend.label_studio.labeling.annotations import read_annotation
from imil_backend.label_studio.labeling.label_config import ProjectMapping
from imil_backend.loop.asking.known_masks import irrelevant_region
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.projects.mapping import mapping_of
from imil_backend.store.tables import Project, Task

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from support.browser import ARGUMENTS, POINT_IS_ON_STAGE, POINTS_PAINTED, VIEWPORT, Editor
from support.installation import IMIL, Installation, make_environment
from support.label_studio import RunningLabelStudio

FILMS = 40
IMAGES = 150
DRAWS = 2000  # of the tasks
FIGURES = {"hand": 1, "strokes": 2, "path": 0, "dice": 3}  # of `Done`, with digits
PROPOSED = "() => Array.from(window.Htx.annotationStore.selected.regions[0].rle)"
TOOL_SIZE = """() => window.Htx.annotationStore.selected.objects.find(each => each.type === 'image')
    .getToolsManager().findSelectedTool()?.strokeWidth ?? 0"""

Bits = NDArray[np.bool_]


@dataclass(frozen=True)
class Pair:
    """What the hands did for a task with its proposal, and from nothing."""

    first: Done
    second: Done
    proposed: float  # Dice coefficient of the proposal


@dataclass(frozen=True)
class Hands:
    """What they work with."""

    editor: Editor
    backend: Backend
    project: Project
    mapping: ProjectMapping

    def answer(self, task: Task) -> Pair:
        """Answer a task with its proposal, then paint it from nothing."""
        lungs, first, second = ~irrelevant_region(task.sample), Done(), Done()
        began = time.monotonic()
        self.editor.open_task(self.project.label_studio_id, task.label_studio_id)
        self.editor.wait_for_regions(1)
        first.waited = time.monotonic() - began
        alpha = decode_rle(self.editor.page.evaluate(PROPOSED), task.sample.width, task.sample.height)
        proposed = alpha >= 128
        self._correct(proposed, lungs, first)
        annotation = self._save(first, task, lungs)
        self.editor.wait_until_shown()  # the editor is built anew
        self._delete()
        self._paint(from_nothing(lungs, self._scale(lungs)), lungs, second)
        self._save(second, task, lungs)
        self.backend.label_studio.request(
            "PATCH", f"/api/annotations/{annotation['id']}/", body={"result": annotation["result"]}
        )
        return Pair(first, second, dice(proposed, lungs))

    def _scale(self, mask: Bits) -> float:
        """px of the screen in a pixel of a mask."""
        return self.editor.paint([]).width / mask.shape[1]  # when the page is still

    def _correct(self, proposed: Bits, lungs: Bits, done: Done) -> None:
        if dice(proposed, lungs) >= GOOD:
            return
        scale, instead = self._scale(lungs), from_nothing(lungs, self._scale(lungs))
        plan = correction(proposed, lungs, scale)
        if plan is None or plan.seconds(scale) > instead.seconds(scale):
            self._delete()
            done.press(2)
            self._paint(instead, lungs, done)
            return
        self._paint(plan, lungs, done)

    def _delete(self) -> None:
        """All that is painted."""
        while count := self.editor.page.locator(".lsf-outliner-item").count():
            self.editor.page.locator(".lsf-outliner-item").first.click()
            self.editor.page.keyboard.press("Backspace")
            self.editor.wait_for_regions(count - 1)

    def _paint(self, plan: Plan, lungs: Bits, done: Done) -> None:
        """Draw the strokes with a brush of the plan's size: what is irrelevant wins."""
        box = self.editor.paint([])  # when the page is still
        scale = box.width / lungs.shape[1]
        done.press(presses(plan.brush) * bool(plan.strokes))
        for number, (erases, some) in enumerate(plan.by_label().items()):
            self._take("1" if erases else "2", plan.brush)
            done.press(1 + number)  # Esc before another label
            for stroke in some:
                self._drag([box.to_page(point) for point in stroke.fractions(lungs)])
                done.draw(stroke.length * scale)

    def _drag(self, corners: Sequence[Point]) -> None:
        page = self.editor.page
        page.wait_for_function(POINT_IS_ON_STAGE, arg=list(corners[0]))
        painted = page.evaluate(POINTS_PAINTED)
        page.mouse.move(*corners[0])
        page.mouse.down()
        for corner in corners[1:]:
            page.mouse.move(*corner)
        page.mouse.up()
        page.wait_for_function(f"({POINTS_PAINTED})() > {painted}")

    def _take(self, key: str, brush: int) -> None:
        """A label's brush, of a size; how it comes to it does not count: the last size is remembered."""
        page = self.editor.page
        page.keyboard.press("Escape")  # nothing is selected: a region of its own
        page.keyboard.press(key)
        before = 0
        while (size := self._size()) != brush or before != brush:  # the editor takes a moment for each key
            if before == size:
                page.keyboard.press("]" if size < brush else "[")
            before = size

    def _size(self) -> int:
        self.editor.page.wait_for_timeout(150)
        return int(self.editor.page.evaluate(TOOL_SIZE))

    def _save(self, done: Done, task: Task, lungs: Bits) -> dict[str, Any]:
        """Submit or update, and read what was saved."""
        began = time.monotonic()
        with self.editor.saving() as saved:
            self.editor.page.keyboard.press("Control+Enter")
        done.press()
        done.waited += time.monotonic() - began
        annotation = self.backend.label_studio.annotation(int(saved()["id"]))
        assert annotation is not None
        reading = read_annotation(annotation, self.mapping, task.sample.width, task.sample.height)
        assert reading.mask is not None, reading.reason
        done.dice = dice(~reading.mask, lungs)
        return annotation


def measure(name: str, films: Path, label_studio: RunningLabelStudio, count: int, work: Path) -> list[Pair]:
    """What the hands did for each task."""
    from playwright.sync_api import sync_playwright

    executable = os.environ.get("IMIL_TEST_CHROMIUM", "/usr/bin/chromium")
    with ExitStack() as stack:
        installation = Installation(make_environment(work / f"{name}-data", label_studio), stack)
        prepare(installation, films)
        backend = stack.enter_context(installation.backend())
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        stack.callback(browser.close)
        page = browser.new_context(viewport=VIEWPORT).new_page()
        page.set_default_timeout(120_000)
        editor = Editor(page, label_studio)
        editor.log_in()
        project, tasks = round_of(backend)
        hands = Hands(editor, backend, project, mapping_of(backend, project))
        proposed = (task for task in tasks[PAINTED:] if proposal_of(backend, task) is not None)
        pairs = []
        for task in islice(proposed, count):
            pairs.append(hands.answer(task))
            print(f"{name} {len(pairs)}: {pairs[-1]}", file=sys.stderr, flush=True)
        return pairs


def rows_of(name: str, pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """A row for the hands with proposals, one for those from nothing, and one for the ratio of both."""
    arms = {"with proposals": [each.first for each in pairs], "from nothing": [each.second for each in pairs]}
    drawn = np.random.default_rng(0).integers(len(pairs), size=(DRAWS, len(pairs)))
    rows: dict[str, dict[str, Any]] = {arm: {"films": name, "hands": arm} for arm in (*arms, "ratio")}
    for figure, digits in FIGURES.items():
        of_arm = {arm: np.array([getattr(each, figure) for each in done]) for arm, done in arms.items()}
        means = {arm: values[drawn].mean(axis=1) for arm, values in of_arm.items()}
        for arm, values in of_arm.items():
            rows[arm][figure] = _interval(values.mean(), means[arm], digits)
        one, other = (of_arm[arm].mean() for arm in arms)
        rows["ratio"][figure] = _interval(one / other, means["with proposals"] / means["from nothing"], 2)
    rows["with proposals"]["waited"] = round(float(np.median([each.first.waited for each in pairs])), 1)
    rows["with proposals"]["untouched"] = sum(each.first.strokes == 0 for each in pairs)
    rows["with proposals"]["proposed dice"] = round(float(np.mean([each.proposed for each in pairs])), 3)
    return [{"tasks": len(pairs), **row} for row in rows.values()]


def _interval(value: float, means: NDArray[np.float64], digits: int) -> str:
    lower, upper = np.quantile(means, (0.025, 0.975))
    return f"{value:.{digits}f} ({lower:.{digits}f} to {upper:.{digits}f})"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--films", type=int, default=FILMS, help="tasks")
    parser.add_argument("--xrays", type=Path, help="zip of chest X-rays (IMIL_TEST_XRAYS)")
    parser.add_argument("--json", type=Path, help="write the rows there too")
    arguments = parser.parse_args()
    archive = archive_of(arguments.xrays)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        work = Path(folder)
        label_studio = stack.enter_context(running_label_studio(work / "label-studio"))
        drawn = work / "phantoms"
        draw = [IMIL, "phantoms", drawn, "--count", str(IMAGES), "--size", "256"]
        subprocess.run(draw, check=True, stdout=subprocess.DEVNULL)
        sources = [("phantoms", drawn)]
        if archive is not None:
            sources.append(("X-rays", write_xrays(archive, work / "xrays", IMAGES)))
        for name, films in sources:
            rows += rows_of(name, measure(name, films, label_studio, arguments.films, work))
            print(table(rows), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
