"""kill -9 at random times, round after round. Run by `scripts/test --faults`; too long for every change."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable

import pytest
from faults_scene import Scene, start
from sqlalchemy import select

from imil_backend.store.tables import Round

pytestmark = [pytest.mark.label_studio, pytest.mark.training, pytest.mark.faults, pytest.mark.timeout(0)]

# What is killed, by a word of its command.
VICTIMS = {
    "web process": "imil serve",
    "worker": "imil worker",
    "training child": "learning.child",
}
LONGEST_LIFE = 8.0  # seconds between two kills, at the most
AGAIN = 0.2  # share of answers that are taken back and given anew


def test_kill_9_at_random_times(make_scene: Callable[..., Scene], request: pytest.FixtureRequest) -> None:
    times, seed = request.config.getoption("--times"), request.config.getoption("--seed")
    chance = random.Random(seed)
    reporter = request.config.pluginmanager.getplugin("terminalreporter")
    scene = start(make_scene(), "--next-round", "--repeat")
    killed: Counter[str] = Counter()
    answered: set[int] = set()
    while killed.total() < times:
        live(scene, answered, chance, chance.uniform(0, LONGEST_LIFE))
        victim = chance.choice([name for name, word in VICTIMS.items() if scene.installation.processes(word)])
        scene.installation.kill(VICTIMS[victim])
        killed[victim] += 1
        rounds = " ".join(states(scene))
        reporter.write(f"\n{killed.total()} of {times}: killed the {victim}; rounds: {rounds}", flush=True)
    scene.settle(lambda: is_quiet(scene, answered), seconds=600)
    scene.check(", ".join(f"{name} {count}" for name, count in killed.items()), times)


def live(scene: Scene, answered: set[int], chance: random.Random, seconds: float) -> None:
    """Answer what is asked, for so long, as clinicians do who do not see that anything dies."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        scene.installation.keep_running()
        try_again_if_failed(scene)
        for task in set(scene.tasks) - answered:
            annotation = scene.submit(task)
            if chance.random() < AGAIN:
                scene.delete(annotation)
                scene.submit(task, columns=40)
            answered.add(task)
            break
        else:
            time.sleep(0.1)


def try_again_if_failed(scene: Scene) -> None:
    """A training that died three times within one epoch is a person's to try again."""
    if states(scene)[-1] == "failed" and not scene.installation.processes("imil train"):
        scene.installation.start_once("train")


def states(scene: Scene) -> list[str]:
    """Of all rounds, the oldest first."""
    with scene.installation.backend() as backend, backend.store.begin() as session:
        return list(session.scalars(select(Round.state).order_by(Round.number)))


def is_quiet(scene: Scene, answered: set[int]) -> bool:
    """Whether the latest round waits for clinicians, all others are closed, and the store is equal."""
    try_again_if_failed(scene)
    *others, latest = states(scene)
    waits = latest == "open" and bool(set(scene.tasks) - answered)
    return waits and set(others) == {"closed"} and scene.is_equal()
