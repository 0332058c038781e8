"""kill -9 of the worker, the training child and the web process, at every step of a round."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from faults_scene import Scene, start
from support.http_server import Answer, Request

pytestmark = [pytest.mark.label_studio, pytest.mark.training, pytest.mark.faults, pytest.mark.timeout(900)]

DYING = Path(__file__).with_name("dying")
STEPS = (
    "bring_in_line",
    "prepare_round_training",
    "run_round_training",
    "conclude",
    "write_report",
    "ensure_workflow",
    "push_round",
)


def deadly(make_scene: Callable[..., Scene], deaths: Path, *steps: str) -> Scene:
    """A scene whose processes die once at each of these steps."""
    deaths.mkdir()
    return make_scene(PYTHONPATH=str(DYING), IMIL_TEST_DIES=",".join(steps), IMIL_TEST_DEATHS=str(deaths))


def test_the_worker_dies_before_and_after_every_step(
    make_scene: Callable[..., Scene], tmp_path: Path
) -> None:
    steps = [f"{when} {step}" for step in STEPS for when in ("before", "after")]
    scene = start(deadly(make_scene, tmp_path / "deaths", *steps), "--next-round")
    for task in scene.tasks:
        scene.submit(task)
    scene.settle(lambda: scene.state(2) == "open" and scene.is_over(), seconds=400)
    died = {path.name.replace("-", " ") for path in (tmp_path / "deaths").iterdir()}
    assert died == set(steps)
    scene.check("worker killed before and after each step", len(died))


@pytest.mark.parametrize("phases", [("phase caching", "phase training"), ("phase evaluating",)])
def test_the_training_child_dies_in_every_phase(
    make_scene: Callable[..., Scene], tmp_path: Path, phases: tuple[str, ...]
) -> None:
    scene = start(deadly(make_scene, tmp_path / "deaths", *phases))
    for task in scene.tasks:
        scene.submit(task)
    scene.settle(scene.is_over)
    died = {path.name.replace("-", " ") for path in (tmp_path / "deaths").iterdir()}
    assert died == set(phases)
    scene.check(f"training child killed in {' and '.join(phases).replace('phase ', '')}", len(died))


def test_the_web_process_dies_before_within_and_after_an_event(scene: Scene) -> None:
    before, within, after, *others = scene.tasks
    serve = scene.installation

    def die_before(request: Request) -> Answer | None:
        serve.kill("serve")
        return None

    def die_within(request: Request) -> Answer | None:
        half = request.body[: len(request.body) // 2]
        answer = scene.inbound.forward(Request(request.method, request.path, request.headers, half))
        serve.kill("serve")
        return answer

    def die_after(request: Request) -> Answer | None:
        scene.inbound.forward(request)
        serve.kill("serve")
        return Answer(502)

    for task, fault in ((before, die_before), (within, die_within), (after, die_after)):
        scene.inbound.fault = fault  # type: ignore[method-assign]
        scene.submit(task)
        scene.inbound.fault = lambda _: None  # type: ignore[method-assign,assignment]
        scene.settle(serve.answers)
    for task in others:
        scene.submit(task)
    scene.settle(scene.is_over)
    scene.check("web process killed before, within and after an event", 3)
