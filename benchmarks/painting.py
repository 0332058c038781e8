"""Seconds and strokes of scripted hands in the real editor: with proposed masks, and painting from nothing.

    python -m benchmarks painting [--films N] [--xrays ZIP] [--json FILE]

Starts a real Label Studio, `imil serve` and `imil worker` on directories of their own, and drives the editor
in a real browser (Debian's chromium, with the tests' helpers). A dozen tasks of the first round are answered
through the API with the known lungs, painted as relevant; from these the worker proposes masks for the rest,
half of which is the control group. Then the hands answer N tasks of each group. They know the true mask:

- with a proposal they look, and press Ctrl+Enter if its Dice coefficient with the true lungs is at least
  0.95; else they delete it and paint from nothing;
- from nothing they choose *Relevant* and a brush of 50 px, and paint the lungs in rows, a stroke a lung.

`hand` counts what they did at a fixed speed: 2 s to look, 0.4 s for a key or click, 800 px/s on the screen.
`waited` is what Label Studio took on top, on this machine, to show the task and to save it. Medians over the
tasks; Dice is of what Label Studio has saved, with the true lungs: the mean. All masks are simulated.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from benchmarks.report import archive_of, machine, table
from imil_backend.images.masks.masks import dice
from imil_backend.label_studio.labeling.annotations import read_annotation
from imil_backend.label_studio.labeling.brush_regions import brush_region
from imil_backend.loop.answers.sample_states import load_mask
from imil_backend.loop.asking.known_masks import irrelevant_region
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.projects.mapping import mapping_of
from imil_backend.loop.proposals.offers import latest_proposal
from imil_backend.store.tables import Project, Task

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))

from support.browser import ARGUMENTS, VIEWPORT, Editor  # noqa: E402
from support.installation import Installation, make_environment  # noqa: E402
from support.label_studio import RunningLabelStudio, free_port  # noqa: E402

FILMS = 10  # of each group
PAINTED = 12  # before masks are proposed
IMAGES = 150
GOOD = 0.95  # Dice coefficient that the hands are content with
LOOK, PRESS, SPEED = 2.0, 0.4, 800.0  # seconds, seconds, px of the screen a second
BRUSH, DEFAULT_BRUSH, BRUSH_STEP = 50, 15, 5  # px of the screen; the key ] makes it a step larger

Bits = NDArray[np.bool_]
Point = tuple[float, float]


@dataclass
class Done:
    """What the hands did for a task."""

    hand: float = LOOK
    waited: float = 0.0
    strokes: int = 0
    path: float = 0.0  # px of the screen
    dice: float = 0.0

    def press(self, times: int = 1) -> None:
        """Keys or clicks."""
        self.hand += PRESS * times

    def draw(self, length: float) -> None:
        """A stroke of a length on the screen."""
        self.strokes += 1
        self.path += length
        self.hand += PRESS + length / SPEED


@contextmanager
def running_label_studio(directory: Path) -> Iterator[RunningLabelStudio]:
    """A fresh one."""
    command = [sys.executable, str(ROOT / "scripts/label_studio.py"), "--data-dir", str(directory)]
    executable = ROOT / ".venv-label-studio/bin/label-studio"
    command += ["--executable", os.environ.get("IMIL_TEST_LABEL_STUDIO", str(executable))]
    command += ["--port", str(free_port()), "--password", secrets.token_hex(8)]
    command += ["--token", secrets.token_hex(20)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            account = json.loads(process.stdout.readline())
            yield RunningLabelStudio(
                account["url"], account["token"], directory, account["username"], account["password"], 0
            )
        finally:
            process.terminate()


def write_xrays(archive: Path, directory: Path, count: int) -> Path:
    """Some of the training films with their lungs, as the phantoms are written."""
    with zipfile.ZipFile(archive) as there:
        root = next(name for name in there.namelist() if name.endswith("index.csv")).removesuffix("index.csv")
        listed = csv.DictReader(io.StringIO(there.read(f"{root}index.csv").decode()))
        films = [row for row in listed if row["official_split"] == "train" and row["mask_match"]]
        order = np.random.default_rng(0).permutation(len(films))[:count]
        rows = []
        for film in (films[place] for place in order):
            mask = f"masks/{Path(film['file']).stem}.png"
            for name in (f"images/{film['file']}", mask):
                (directory / name).parent.mkdir(parents=True, exist_ok=True)
                (directory / name).write_bytes(there.read(root + name))
            split = "validation" if len(rows) % 5 == 0 else "train"
            group = f"{film['patient']}-{film['subtype']}"
            rows.append((f"images/{film['file']}", film["label"], split, group, mask))
    with (directory / "index.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "label", "split", "group", "mask"), *rows])
    return directory


def prepare(installation: Installation, films: Path, count: int) -> None:
    """A trained baseline and an open round."""
    installation.imil("import", str(films), "--name", "films")
    small = ("--backbone", "resnet18", "--epochs", "2", "--image-size", "128")
    installation.imil("train", "--from-scratch", *small)
    installation.start("serve")
    installation.start("worker")
    installation.wait_for(lambda _: installation.answers())
    budget = ("--budget", "0.5", "--fill-budget")
    closing = ("--close-share", "1", "--no-next-round")
    installation.imil("push", *budget, *closing, "--control-share", "0.5")
    with installation.backend() as backend:
        project, tasks = _round(backend)
        mapping = mapping_of(backend, project)
        for task in tasks[:PAINTED]:
            lungs = brush_region(mapping, irrelevant_region(task.sample), "painted", outside=True)
            backend.label_studio.create_annotation(task.label_studio_id, [lungs], 10.0)
        deadline = time.monotonic() + 1800
        while any(_proposed(backend, task) is None for task in tasks[PAINTED : PAINTED + 2 * count]):
            assert time.monotonic() < deadline, "No masks were proposed."
            time.sleep(1)


def _round(backend: Backend) -> tuple[Project, Sequence[Task]]:
    with backend.store.begin() as session:
        return session.scalars(select(Project)).one(), session.scalars(select(Task).order_by(Task.rank)).all()


def _proposed(backend: Backend, task: Task) -> Any:
    with backend.store.begin() as session:
        return latest_proposal(session, task.id)


def answer(editor: Editor, backend: Backend, project: Project, task: Task) -> tuple[bool, Done]:
    """Answer a task as hands would; whether a proposal was shown, and what they did."""
    mapping, proposal = mapping_of(backend, project), _proposed(backend, task)
    lungs, done = ~irrelevant_region(task.sample), Done()
    began = time.monotonic()
    editor.open_task(project.label_studio_id, task.label_studio_id)
    editor.wait_for_regions(1 if proposal.shown else 0)
    done.waited = time.monotonic() - began
    if proposal.shown:
        proposed = ~load_mask(backend, proposal.mask_sha256, task.sample)
        if dice(proposed, lungs) < GOOD:
            editor.select_region("Relevant")
            editor.page.keyboard.press("Backspace")
            editor.wait_for_regions(0)
            done.press(2)
            paint(editor, lungs, done)
    else:
        paint(editor, lungs, done)
    began = time.monotonic()
    with editor.saving() as saved:
        editor.page.keyboard.press("Control+Enter")
    done.press()
    done.waited += time.monotonic() - began
    annotation = backend.label_studio.annotation(int(saved()["id"]))
    assert annotation is not None
    reading = read_annotation(annotation, mapping, task.sample.width, task.sample.height)
    assert reading.mask is not None, reading.reason
    done.dice = dice(~reading.mask, lungs)
    return bool(proposal.shown), done


def paint(editor: Editor, lungs: Bits, done: Done) -> None:
    """Choose Relevant and a large brush, and fill each lung in rows."""
    for key in ("2", *("]" * ((BRUSH - DEFAULT_BRUSH) // BRUSH_STEP))):
        editor.page.keyboard.press(key)
        done.press()
    box = editor.image_box()
    for stroke in strokes(lungs, BRUSH / 2 * lungs.shape[1] / box.width):
        editor.paint([stroke], counts=False)
        corners = np.array([box.to_page(point) for point in stroke])
        done.draw(float(np.hypot(*np.diff(corners, axis=0).T).sum()))


def strokes(lungs: Bits, radius: float) -> list[list[Point]]:
    """A path for each lung, in fractions of the image: rows from side to side, a brush's radius inside."""
    inside = _eroded(lungs, radius * 0.9)
    found = []
    for half in (slice(0, lungs.shape[1] // 2), slice(lungs.shape[1] // 2, None)):
        points: list[Point] = []
        rows = np.flatnonzero(inside[:, half].any(axis=1))
        for number, row in enumerate(rows[:: max(1, int(radius * 1.2))]):
            columns = np.flatnonzero(inside[row, half]) + (half.start or 0)
            ends = [(columns[0], row), (columns[-1] + 0.5, row)]
            points += ends if number % 2 == 0 else ends[::-1]
        if points:
            height, width = lungs.shape
            found.append([((x + 0.5) / width, (y + 0.5) / height) for x, y in points])
    return found


def _eroded(mask: Bits, radius: float) -> Bits:
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    padded = np.pad(mask, reach)
    height, width = mask.shape
    kept = mask.copy()
    for dy, dx in zip(*np.nonzero(x**2 + y**2 <= radius**2), strict=True):
        kept &= padded[dy : dy + height, dx : dx + width]
    return kept


def measure(name: str, films: Path, label_studio: RunningLabelStudio, count: int, work: Path) -> list[Any]:
    """A row for each group."""
    from playwright.sync_api import sync_playwright

    executable = os.environ.get("IMIL_TEST_CHROMIUM", "/usr/bin/chromium")
    with ExitStack() as stack:
        installation = Installation(make_environment(work / f"{name}-data", label_studio), stack)
        prepare(installation, films, count)
        backend = stack.enter_context(installation.backend())
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        stack.callback(browser.close)
        page = browser.new_context(viewport=VIEWPORT).new_page()
        page.set_default_timeout(120_000)
        editor = Editor(page, label_studio)
        editor.log_in()
        project, tasks = _round(backend)
        groups: dict[bool, list[Done]] = {True: [], False: []}
        for task in tasks[PAINTED:]:
            proposal = _proposed(backend, task)
            if proposal is not None and len(groups[bool(proposal.shown)]) < count:
                shown, done = answer(editor, backend, project, task)
                groups[shown].append(done)
    titles = {True: "with proposals", False: "from nothing"}
    return [_row(name, titles[shown], found) for shown, found in groups.items() if found]


def _row(name: str, group: str, found: Sequence[Done]) -> dict[str, Any]:
    return {
        "films": name,
        "hands": group,
        "tasks": len(found),
        "hand s": round(median(each.hand for each in found), 1),
        "waited s": round(median(each.waited for each in found), 1),
        "strokes": median(each.strokes for each in found),
        "path px": round(median(each.path for each in found)),
        "dice": round(mean(each.dice for each in found), 3),
        "as proposed": sum(each.strokes == 0 for each in found),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--films", type=int, default=FILMS, help="tasks of each group")
    parser.add_argument("--xrays", type=Path, help="zip of chest X-rays (IMIL_TEST_XRAYS)")
    parser.add_argument("--json", type=Path, help="write the rows there too")
    arguments = parser.parse_args()
    archive = archive_of(arguments.xrays)
    rows = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        work = Path(folder)
        label_studio = stack.enter_context(running_label_studio(work / "label-studio"))
        drawn = work / "phantoms"
        subprocess.run(
            [
                Path(sys.executable).with_name("imil"),
                "phantoms",
                drawn,
                "--count",
                str(IMAGES),
                "--size",
                "256",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        sources = [("phantoms", drawn)]
        if archive is not None:
            sources.append(("X-rays", write_xrays(archive, work / "xrays", IMAGES)))
        for name, films in sources:
            rows += measure(name, films, label_studio, arguments.films, work)
    print(table(rows))
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
