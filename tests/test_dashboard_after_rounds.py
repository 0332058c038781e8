"""The dashboard after real rounds: promoted, undecided, rejected by a person, cancelled, rejected."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image
from support.conditions import wait_until
from support.dashboard_numbers import CHECKS, check_machine, check_start
from support.dashboard_numbers.files import Files
from support.installation import SMALL, Installation
from support.label_studio import RunningLabelStudio
from support.looking import look_at_all

from imil_backend.images.masks.masks import Mask
from imil_backend.label_studio.api.simulated_clinician import paint
from imil_backend.label_studio.labeling.label_config import read_label_config

pytestmark = [
    pytest.mark.label_studio,
    pytest.mark.browser,
    pytest.mark.npm,
    pytest.mark.training,
    pytest.mark.timeout(1800),
]
SIDE = 48
# So many for validation that a verdict is not left to chance.
SPLITS = {"train": 60, "val": 60, "test": 20}
# One epoch after the intermediate state: what is learned from spoilt answers cannot be chosen away.
RECIPE = (
    *(*SMALL, "--epochs", "3", "--mining-epoch", "2"),
    *("--batch-size", "8", "--learning-rate", "0.002", "--correction", "blackout", "--no-spread"),
)
CLOSING = ("--close-share", "1", "--close-quiet-seconds", "0", "--no-next-round", "--no-proposals")
FEW = ("--budget", "0.06", "--fill-budget", *CLOSING)
ANY_MARGIN = ("--promotion-margin", "0.99", "--recall-margin", "0.99", "--auc-margin", "0.99")
SMALL_MARGIN = ("--promotion-margin", "0.02", "--recall-margin", "0.1", "--auc-margin", "0.05")


@pytest.fixture
def trained(installation: Installation, tmp_path: Path) -> Installation:
    """A network that tells bright films from dark ones, and both processes."""
    random = np.random.default_rng(0)
    for split, count in SPLITS.items():
        for number in range(count):
            path = tmp_path / "films" / split / ("bright", "dark")[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            grey = random.normal((190, 60)[number % 2], 20, (SIDE, SIDE))
            Image.fromarray(grey.clip(0, 255).astype(np.uint8)).save(path)
    installation.imil("import", str(tmp_path / "films"), "--name", "films")
    installation.imil("train", *RECIPE)
    for process in ("serve", "worker"):
        installation.start(process)
    installation.wait_for(lambda _: installation.answers())
    return installation


def test_every_page_is_sound_and_right_however_rounds_ended(
    trained: Installation, label_studio: RunningLabelStudio, look: Callable[..., list[str]]
) -> None:
    corner = np.zeros((SIDE, SIDE), bool)
    corner[:8, :8] = True
    nearly_all = np.ones((SIDE, SIDE), bool)
    nearly_all[-2:] = False
    files = Files(trained.data_dir)

    def answer(mask: Mask, count: int | None = None) -> None:
        project = files.count("SELECT number FROM projects")
        mapping = read_label_config(label_studio.client.project(project)["label_config"])
        tasks = [each["id"] for each in label_studio.client.tasks(project) if not each["total_annotations"]]
        for task in tasks[:count]:
            paint(label_studio.client, mapping, task, mask)

    def verdict(number: int) -> str:
        report = f"versions/films-round{number}-*/report/report.md"  # the last that the worker writes
        wait_until(lambda: any(trained.data_dir.glob(report)), 600)
        told = files.ask("SELECT verdict FROM rounds WHERE number = ?", number)[0][0]
        return str(json.loads(told)["verdict"])

    def see(number: int, width: int, scheme: str) -> None:
        """What a round changes: a look at pages about it, and all numbers anew."""
        for page in ("/", f"/datasets/1/rounds/{number}", "/datasets/1/versions"):
            look(f"{trained.url}/dashboard{page}", [(width, scheme)])
        for each in CHECKS:
            if each is not check_machine:  # the disk is measured every quarter of an hour
                each(visit, files)

    def visit(path: str) -> str:
        return requests.get(f"{trained.url}/dashboard{path}", timeout=60).text

    trained.imil("push", *FEW, *ANY_MARGIN)
    answer(corner)
    assert verdict(1) == "promote"
    see(1, 1280, "light")

    trained.imil("push", *FEW, *SMALL_MARGIN)
    answer(corner)
    assert verdict(2) == "undecided"
    see(2, 390, "dark")

    undecided = json.loads(trained.imil("models", "--json"))[2]["name"]
    trained.imil("reject", undecided)
    assert "A person rejected it" in visit("/datasets/1/rounds/2")
    look(f"{trained.url}/dashboard/datasets/1/rounds/2")

    trained.imil("push", *FEW)
    answer(corner, 1)
    wait_until(lambda: files.answered(files.count("SELECT max(id) FROM rounds"))[0] == 1, 60)
    check_start(visit, files)  # with the pace of an open round
    trained.imil("cancel")
    assert "was cancelled" in visit("/datasets/1/rounds/3")
    see(3, 1280, "dark")

    trained.imil("push", "--budget", "1", "--fill-budget", *CLOSING, *SMALL_MARGIN)
    answer(nearly_all)
    assert verdict(4) == "reject"
    assert "is worse and was rejected" in visit("/datasets/1/rounds/4")
    see(4, 390, "light")
    check_machine(visit, files)
    look_at_all(f"{trained.url}/dashboard/", look, [(1280, "dark")])
