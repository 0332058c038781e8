"""Thousands of tasks, half painted while nothing listens. By hand: scripts/test tests/faults/at_scale.py"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from faults_scene import SIZE, Scene
from support.installation import SMALL

pytestmark = [pytest.mark.label_studio, pytest.mark.training, pytest.mark.faults, pytest.mark.timeout(0)]

PHANTOMS = 3600  # two thousand and more of them to train on
TRAINING = (*SMALL, "--epochs", "2")
CHANGED = 100


def test_thousands_of_tasks_are_brought_in_line(
    make_scene: Callable[..., Scene], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    reporter = request.config.pluginmanager.getplugin("terminalreporter")

    def timed(name: str, *command: str) -> None:
        began = time.monotonic()
        scene.installation.imil(*command)
        reporter.write(f"\n{name}: {time.monotonic() - began:.1f} s", flush=True)

    scene = make_scene(trained=False)
    scene.installation.imil("phantoms", str(tmp_path / "phantoms"), f"--count={PHANTOMS}", f"--size={SIZE}")
    timed("import", "import", str(tmp_path / "phantoms"), "--name", "phantoms")
    timed("baseline", "train", *TRAINING)
    timed("push", "push", "--budget", "1", "--fill-budget", "--no-next-round")
    scene.project = scene.installation.status()["project"]
    tasks = scene.tasks
    submitted = [scene.submit(task, columns=1 + task % 100) for task in tasks[::2]]
    timed(f"{len(submitted)} answers on {len(tasks)} tasks", "reconcile")
    timed("nothing changed", "reconcile")
    painted = scene.label_studio.ask(f"/api/annotations/{submitted[0]}/")["result"]
    for annotation in submitted[:CHANGED]:
        scene.change(annotation, painted)
    for annotation in submitted[-CHANGED:]:
        scene.delete(annotation)
    timed(f"{CHANGED} changed, {CHANGED} deleted", "reconcile")
    timed("every annotation", "reconcile", "--full")
    scene.check(f"every event lost on {len(tasks)} tasks")
