"""Events that do not arrive, or arrive too often and in any order."""

from __future__ import annotations

import random

import pytest
from faults_scene import Scene
from support.http_server import Answer, Request

pytestmark = [pytest.mark.label_studio, pytest.mark.training, pytest.mark.faults, pytest.mark.timeout(600)]

SUBMISSIONS = 200


def is_event(request: Request) -> bool:
    return request.path == "/webhook"


def change_things(scene: Scene) -> None:
    """Answer every task; then paint one again, empty one, and delete one that is answered again."""
    first, second, third, *_ = [scene.submit(task) for task in scene.tasks]
    painted = scene.label_studio.ask(f"/api/annotations/{second}/")["result"]
    scene.change(first, painted)
    scene.change(second, [])
    scene.delete(third)
    for task in scene.tasks[1:3]:
        scene.submit(task, columns=40)


def test_the_receiver_is_down_during_200_submissions(scene: Scene) -> None:
    serve = scene.installation.stop("serve")
    tasks = scene.tasks
    for number in range(SUBMISSIONS):
        scene.submit(tasks[number % len(tasks)], columns=1 + number)
    scene.installation.start(*serve)
    scene.settle(scene.is_over)
    scene.check("receiver down during 200 submissions")


def test_every_event_is_dropped(scene: Scene) -> None:
    scene.inbound.fault = lambda request: Answer(200) if is_event(request) else None  # type: ignore[method-assign]
    change_things(scene)
    scene.settle(scene.is_over)
    scene.check("every event dropped")


def test_every_event_comes_three_times_in_any_order(scene: Scene) -> None:
    events: list[Request] = []

    def keep(request: Request) -> Answer | None:
        if is_event(request):
            events.append(request)
            return Answer(200)
        return None

    scene.inbound.fault = keep  # type: ignore[method-assign]
    change_things(scene)
    thrice = events * 3
    random.Random(0).shuffle(thrice)
    answers = [scene.inbound.forward(event).status for event in thrice]
    assert set(answers) == {200}
    scene.settle(scene.is_over)
    scene.check("every event three times, shuffled", 3)
