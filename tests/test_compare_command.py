"""`imil compare` as users run it, with real trainings on phantoms; killed, it gives the same numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.conditions import wait_until

pytestmark = pytest.mark.training

IMIL = Path(sys.executable).with_name("imil")
# Five films are painted: too few to propose masks from, which takes most of the time.
SMALL = (
    *("--arms", "counterexample,mixup", "--budget", "0.015"),
    *("--from-scratch", "--backbone", "resnet18", "--image-size", "32"),
    *("--epochs", "3", "--trainable", "layer4"),
)
UNCHANGED = "unchanged"
ARMS = (UNCHANGED, "counterexample", "mixup")


class Command:
    """`imil` in a process of its own, on a data directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        left_out = ("LABEL_STUDIO_", "IMIL_")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
        self._environment = {**environment, "IMIL_DATA_DIR": str(directory), "OMP_NUM_THREADS": "1"}

    def start(self, *words: object) -> subprocess.Popen[str]:
        command = [IMIL, *map(str, words)]
        return subprocess.Popen(
            command, env=self._environment, cwd=self.directory.parent, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip

    def __call__(self, *words: object) -> str:
        process = self.start(*words)
        shown, _ = process.communicate()
        assert process.returncode == 0, shown
        return shown

    def runs(self, name: str) -> list[dict[str, Any]]:
        path = self.directory / "compare" / name / "runs.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def working(self, name: str, *parts: str) -> bool:
        return self.directory.joinpath("compare", name, "work", *parts).exists()


@pytest.fixture(scope="module")
def imil(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """With 400 phantoms, whose letters are painted."""
    root = tmp_path_factory.mktemp("compare")
    (root / "data").mkdir()
    command = Command(root / "data")
    command("phantoms", root / "films", "--count", 400, "--size", 64)
    command("import", root / "films", "--mask", "letter_mask", "--mask-means", "irrelevant")
    return command


@pytest.fixture(scope="module")
def whole(imil: Command) -> list[dict[str, Any]]:
    """The runs of a comparison that nobody has interrupted, seed by seed; two are trained at a time."""
    shown = imil("compare", "--name", "whole", "--seeds", 3, "--parallel", 2, *SMALL)
    assert "SIMULATED" in shown and "PLANTED letter" in shown and "9 trainings: 3 arms, 3 seeds" in shown
    return sorted(imil.runs("whole"), key=lambda run: run["seed"])


def numbers(run: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in run.items() if name not in {"seconds", "protocol"}}


def test_every_arm_is_trained_in_every_seed(whole: list[dict[str, Any]]):
    assert [(run["seed"], run["arm"]) for run in whole] == [(seed, arm) for seed in range(3) for arm in ARMS]
    for run in whole:
        assert len(run["test"]["keys"]) == 60 and run["best_epoch"] > 1
        assert run["test"]["exchanged"].keys() == set(run["test"]["keys"])  # the shortcut test
        painted = run["painted_images"]  # the training split is not of one size in all seeds
        assert 4 <= painted <= 5 if run["arm"] == "counterexample" else painted == 0
    told = {(run["seed"], run["arm"]): run["test"]["probabilities"] for run in whole}
    for arm in ARMS[1:]:  # the layers that stay as they are were never trained, and do not see every letter
        assert any(told[seed, arm] != told[seed, UNCHANGED] for seed in range(3))
    assert len({json.dumps(told[seed, UNCHANGED]) for seed in range(3)}) == 3


def test_killed_at_five_moments_it_goes_on_and_gives_the_same_numbers(
    imil: Command, whole: list[dict[str, Any]]
):
    moments: list[Callable[[], bool]] = [
        lambda: imil.working("killed", "0-0", "unchanged", "job.json"),
        lambda: imil.working("killed", "0-0", "unchanged", "checkpoint.pt"),
        lambda: len(imil.runs("killed")) == 1,
        lambda: imil.working("killed", "0-0", "counterexample-0.015", "checkpoint.pt"),
        lambda: (
            len(imil.runs("killed")) == 2 and imil.working("killed", "0-0", "mixup-0.015", "progress.json")
        ),
    ]
    command = ("compare", "--name", "killed", "--seeds", 1, *SMALL)
    for reached in moments:
        process = imil.start(*command)
        wait_until(lambda: reached() or process.poll() is not None, 120)  # noqa: B023
        assert process.poll() is None, process.communicate()[0]
        process.kill()
        process.communicate()
    imil(*command)
    found = imil.runs("killed")
    assert [numbers(run) for run in found] == [numbers(run) for run in whole[:3]]
    assert not imil.working("killed")


def test_hours_are_measured_and_nothing_is_fixed(imil: Command):
    shown = imil("compare", "--name", "dry", "--seeds", 2, *SMALL, "--dry-run")
    assert "6 trainings" in shown and "hours on this device, measured" in shown
    assert "Zhang et al. 2018" in shown
    assert not (imil.directory / "compare" / "dry" / "protocol.json").exists()
