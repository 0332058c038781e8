"""The round that scripted hands answer: films with known lungs in a Label Studio, a few of them painted."""

from __future__ import annotations

import csv
import io
import json
import os
import secrets
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from sqlalchemy import select

from imil_backend.label_studio.labeling.brush_regions import brush_region
from imil_backend.loop.asking.known_masks import irrelevant_region
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.projects.mapping import mapping_of
from imil_backend.loop.proposals.offers import latest_proposal
from imil_backend.store.tables import Project, Proposal, Task

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))

from support.installation import Installation  # noqa: E402
from support.label_studio import RunningLabelStudio, free_port  # noqa: E402

PAINTED = 12  # before masks are proposed


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


def prepare(installation: Installation, films: Path) -> None:
    """A trained baseline and an open round."""
    installation.imil("import", str(films), "--name", "films")
    small = ("--backbone", "resnet18", "--epochs", "2", "--image-size", "128")
    installation.imil("train", "--from-scratch", *small)
    installation.start("serve")
    installation.start("worker")
    installation.wait_for(lambda _: installation.answers())
    budget = ("--budget", "0.5", "--fill-budget")
    closing = ("--close-share", "1", "--no-next-round")
    installation.imil("push", *budget, *closing, "--control-share", "0")
    with installation.backend() as backend:
        project, tasks = round_of(backend)
        mapping = mapping_of(backend, project)
        for task in tasks[:PAINTED]:
            lungs = brush_region(mapping, irrelevant_region(task.sample), "painted", outside=True)
            backend.label_studio.create_annotation(task.label_studio_id, [lungs], 10.0)
        deadline = time.monotonic() + 1800
        while not any(proposal_of(backend, task) for task in tasks[PAINTED:]):
            assert time.monotonic() < deadline, "No masks were proposed."
            time.sleep(5)


def round_of(backend: Backend) -> tuple[Project, Sequence[Task]]:
    """The project, and its tasks in their order."""
    with backend.store.begin() as session:
        return session.scalars(select(Project)).one(), session.scalars(select(Task).order_by(Task.rank)).all()


def proposal_of(backend: Backend, task: Task) -> Proposal | None:
    """What is proposed for a task now."""
    with backend.store.begin() as session:
        return latest_proposal(session, task.id)
