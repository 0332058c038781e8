"""Two web processes and two workers on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from faults_scene import Scene
from support.installation import train_small_baseline

pytestmark = [pytest.mark.label_studio, pytest.mark.training, pytest.mark.faults, pytest.mark.timeout(600)]


def test_a_worker_dies_while_it_trains_and_another_takes_over(
    make_scene: Callable[..., Scene], tmp_path: Path, postgres_url: str
) -> None:
    scene = make_scene(trained=False, IMIL_DATABASE_URL=postgres_url, IMIL_WEB_PROCESSES="2")
    train_small_baseline(scene.installation, tmp_path / "phantoms")
    scene.installation.start("serve")
    for name in ("one", "two"):
        scene.installation.start("worker", "--id", name)
    scene.settle(scene.installation.answers)
    scene.push("--no-next-round")
    for task in scene.tasks:
        scene.submit(task)
    scene.settle(lambda: trainer(scene) is not None)
    dead = trainer(scene)
    assert dead is not None
    scene.installation.stop("--id", dead)
    scene.installation.start("worker", "--id", "three", "--take-over", dead)
    scene.settle(scene.is_over)
    scene.check("worker killed while training, taken over (PostgreSQL)")


def trainer(scene: Scene) -> str | None:
    """The id of the worker whose child is training."""
    for child in scene.installation.processes("imil_backend.learning.child"):
        for parent in child.parents():
            command = parent.cmdline()
            if "worker" in command:
                return command[-1]
    return None
