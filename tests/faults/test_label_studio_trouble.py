"""Label Studio is down, or its API answers with errors, too slowly, or by half."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import cycle

import pytest
from faults_scene import Scene, start
from support.http_server import HANG_UP, Answer, Request
from support.proxy import HALF

pytestmark = [pytest.mark.label_studio, pytest.mark.training, pytest.mark.faults, pytest.mark.timeout(600)]

FAULTS = 12


def too_slow(_: Request) -> Answer:
    time.sleep(16)  # the setting's time-out is 15 s
    return Answer(200)


def test_label_studio_is_down_while_a_round_is_answered_and_trained(scene: Scene) -> None:
    asked = len(scene.outbound.kept)
    scene.outbound.fault = lambda _: HANG_UP  # type: ignore[method-assign]
    for task in scene.tasks:
        scene.submit(task)
    scene.settle(lambda: len(scene.outbound.kept) > asked + FAULTS)
    scene.outbound.fault = lambda _: None  # type: ignore[method-assign,assignment]
    scene.settle(scene.is_over)
    scene.check("Label Studio down for the length of a round")


@pytest.mark.parametrize(
    ("name", "trouble"),
    [
        ("500, 429 and half answers", (Answer(500), Answer(429, {"detail": "slow down"}), HALF)),
        ("time-outs", (None,)),
    ],
)
def test_every_other_answer_of_the_api_is_spoilt(
    scene: Scene, name: str, trouble: tuple[Answer | None, ...]
) -> None:
    spoilt = 0
    kinds, turns = cycle(trouble), cycle((True, False))

    def spoil(request: Request) -> Answer | None:
        nonlocal spoilt
        if spoilt >= FAULTS or request.method != "GET" or not next(turns):
            return None
        spoilt += 1
        return next(kinds) or too_slow(request)

    scene.outbound.fault = spoil  # type: ignore[method-assign]
    for task in scene.tasks:
        scene.submit(task)
    scene.settle(scene.is_over, seconds=300)
    assert spoilt
    scene.check(f"API answers with {name}", spoilt)


def test_the_access_token_expires_in_the_middle(make_scene: Callable[..., Scene]) -> None:
    scene = make_scene()
    scene.installation.environment["LABEL_STUDIO_API_KEY"] = scene.label_studio.personal_access_token
    start(scene)
    expired: set[str] = set()

    def refuse_expired(request: Request) -> Answer | None:
        token = request.headers.get("Authorization", "")
        return Answer(401, {"detail": "Token is expired"}) if token in expired else None

    for task in scene.tasks:
        expired |= {request.headers.get("Authorization", "") for request in scene.outbound.kept} - {""}
        scene.outbound.fault = refuse_expired  # type: ignore[method-assign]
        scene.submit(task)
    scene.settle(scene.is_over)
    scene.check("access token expires before each submission", len(scene.tasks))
