"""A clock that is set back, two backends on one project, and a training that hangs until it is cancelled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from faults_scene import Scene, start

SET_BACK = Path(__file__).with_name("set_back")

pytestmark = [pytest.mark.label_studio, pytest.mark.training, pytest.mark.faults, pytest.mark.timeout(600)]


def test_the_clock_is_set_back_in_the_middle_of_a_round(scene: Scene) -> None:
    first, *others = scene.tasks
    changed = scene.submit(first)
    scene.settle(scene.is_equal)
    scene.installation.environment |= {"PYTHONPATH": str(SET_BACK), "IMIL_TEST_HOURS_BACK": "3"}
    for name in ("serve", "worker"):
        scene.installation.start(*scene.installation.stop(name))
    scene.settle(scene.installation.answers)
    scene.change(changed, scene.label_studio.ask(f"/api/annotations/{changed}/")["result"] * 2)
    for task in others:
        scene.submit(task)
    scene.settle(scene.is_over)
    scene.check("clock set back by three hours")


def test_two_backends_work_on_one_project(make_scene: Callable[..., Scene]) -> None:
    one = start(make_scene("one"))
    other = make_scene("other")
    other.installation.start("serve")
    other.installation.start("worker")
    other.settle(other.installation.answers)
    other.push("--no-next-round", "--project", str(one.project))
    for task in one.tasks:
        one.submit(task)
    other.events = one.events
    for scene in (one, other):
        scene.settle(scene.is_over)
        scene.check("two backends on one project")


def test_a_training_that_hangs_is_cancelled(scene: Scene) -> None:
    def training() -> list[psutil.Process]:
        return scene.installation.processes("imil_backend.learning.child")

    submitted = [scene.submit(task) for task in scene.tasks]
    scene.settle(lambda: len(training()) == 1)
    for process in training():
        process.suspend()
    scene.installation.imil("cancel")
    scene.settle(lambda: not training())
    assert scene.state() == "cancelled"
    scene.delete(submitted[0])
    scene.settle(scene.is_equal)
    scene.check("hung training cancelled")
