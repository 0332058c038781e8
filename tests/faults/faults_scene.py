"""What a test of faults plays on, and the assertion that it ends with."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import requests
from sqlalchemy import select
from support.faults import Outcome, note
from support.installation import Installation
from support.label_studio import RunningLabelStudio
from support.proxy import Proxy
from support.truth import assert_equals_label_studio

from imil_backend.label_studio.api.simulated_clinician import paint
from imil_backend.label_studio.labeling.label_config import load_label_config, read_label_config
from imil_backend.store.tables import Annotation, Promotion, Round, Version

MAPPING = read_label_config(load_label_config("blackout"))
SIZE = 256  # of the phantoms
# Six validation groups decide nothing; these margins let any candidate through that keeps its classes.
LENIENT = ("--promotion-margin", "0.99", "--recall-margin", "0.99", "--auc-margin", "0.99")
POLICY = ("--budget", "0.1", "--fill-budget", "--close-share", "1", *LENIENT)


@dataclass
class Scene:
    """An installation between two proxies: `inbound` brings it events, `outbound` goes to Label Studio."""

    installation: Installation
    label_studio: RunningLabelStudio
    inbound: Proxy
    outbound: Proxy
    config: pytest.Config
    project: int = 0
    events: int = 0

    def push(self, *options: str) -> None:
        """Push a round; afterwards `project` is its project in Label Studio."""
        self.installation.imil("push", *POLICY, *options)
        self.project = self.installation.status()["project"]

    @property
    def tasks(self) -> list[int]:
        return sorted(task["id"] for task in self.label_studio.client.tasks(self.project))

    def submit(self, task: int, columns: int = 16) -> int:
        """A clinician paints so many columns; the annotation's id."""
        mask = np.zeros((SIZE, SIZE), bool)
        mask[:, :columns] = True
        self.events += 1
        return paint(self.label_studio.client, MAPPING, task, mask)

    def change(self, annotation: int, result: list[Any]) -> None:
        self.events += 1
        self.label_studio.request(
            "PATCH", f"/api/annotations/{annotation}/", json={"result": result}
        ).raise_for_status()

    def delete(self, annotation: int) -> None:
        self.events += 1
        self.label_studio.request("DELETE", f"/api/annotations/{annotation}/").raise_for_status()

    def settle(self, done: Callable[[], bool], seconds: float = 400) -> None:
        """Wait for a condition, as a supervisor that starts again whatever has died."""
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline, self.installation.status()
            self.installation.keep_running()
            time.sleep(0.5)  # looking takes Label Studio as long

    def state(self, number: int = 1) -> str | None:
        """Of the round of this number."""
        with self.installation.backend() as backend, backend.store.begin() as session:
            return session.scalar(select(Round.state).where(Round.number == number))

    def is_over(self) -> bool:
        """Whether the round has closed and the store equals Label Studio."""
        return self.state() == "closed" and self.is_equal()

    def is_equal(self) -> bool:
        """Whether the store equals Label Studio."""
        with self.installation.backend() as backend:
            try:
                assert_equals_label_studio(backend, self.label_studio.ask, self.project)
            except (AssertionError, requests.Timeout):  # a busy machine is no fault of the store
                return False
        return True

    def check(self, fault: str, times: int = 1) -> None:
        """The store equals Label Studio, nothing lost, nothing doubled; what was found goes into a table."""
        there = self._there()
        with self.installation.backend() as backend, backend.store.begin() as session:
            closed = list(session.scalars(select(Round.version_id).where(Round.state == "closed")))
            versions = list(session.scalars(select(Version.id)))
            promoted = list(session.scalars(select(Promotion.version_id)))
            standing = session.scalars(select(Annotation).where(~Annotation.deleted)).all()
        here = Counter(row.label_studio_id for row in standing)
        masks = sum(row.mask_sha256 is not None for row in standing)
        doubled = sum((here - Counter(there)).values()) + len(versions) - len(set(closed))
        note(
            self.config,
            Outcome(fault, times, self.events, masks, sum((Counter(there) - here).values()), doubled),
        )
        assert self.is_equal()
        assert sorted(versions) == sorted(version for version in closed if version)
        assert len(promoted) == len(set(promoted))

    def _there(self) -> set[int]:
        return {
            int(annotation["id"])
            for task in self.tasks
            for annotation in self.label_studio.ask(f"/api/tasks/{task}/annotations/") or []
        }


def start(scene: Scene, *options: str) -> Scene:
    """Start its web process and its worker, and push a round of five tasks."""
    scene.installation.start("serve")
    scene.installation.start("worker")
    scene.settle(scene.installation.answers)
    scene.push(*(options or ("--no-next-round",)))
    return scene
