from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from loop_fakes import (
    LENIENT,
    FakeLabelStudio,
    make_backend,
    make_dataset,
    make_project,
    make_round,
    make_version,
    mask_of,
    region,
)
from sqlalchemy import select

from imil_backend.store.tables import Annotation, Dataset, Promotion, Round, Task, Version

pytestmark = pytest.mark.slow  # processes

PROGRAM = Path(__file__).with_name("dying_worker.py")


def test_a_round_survives_the_death_of_its_worker_after_every_step(tmp_path: Path) -> None:
    backend = make_backend(tmp_path)
    label_studio = FakeLabelStudio(tmp_path / "label_studio.json")
    dataset = make_dataset(backend, train=20)
    with backend.store.begin() as session:
        found = session.get_one(Dataset, dataset.id)
        found.policy, found.recipe = {**LENIENT, "budget": 0.1}, {"pretrained": False}
    names = ["train-0", "train-1"]
    version = make_version(backend, dataset, wrong=names)
    make_round(backend, label_studio, make_project(backend, dataset), version, names)
    for task in list(label_studio.tasks_there):
        label_studio.annotate(task, region(mask_of(1)))
    backend.close()

    command = [sys.executable, PROGRAM, tmp_path]
    worker = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    lives = [line.split() for line in worker.stdout.splitlines()]
    assert [code for _, code in lives] == ["9"] * 7 + ["0"], worker.stdout + worker.stderr

    label_studio = FakeLabelStudio(tmp_path / "label_studio.json")
    with backend.store.begin() as session:
        assert [row.answer for row in session.scalars(select(Annotation))] == ["blackout"] * 2
        candidate = session.scalars(select(Version).order_by(Version.id)).all()[1:]
        assert [version.blacked_out for version in candidate] == [2]
        assert [row.version.name for row in session.scalars(select(Promotion))] == [
            "baseline",
            candidate[0].name,
        ]
        assert [row.state for row in session.scalars(select(Round).order_by(Round.number))] == [
            "closed",
            "open",
        ]
        pushed = [task.sample.key for task in session.scalars(select(Task).where(Task.round_id == 2))]
    asked = Counter(task["data"]["imil_sample"] for task in label_studio.tasks_there.values())
    assert sorted(pushed) == ["key-train-5", "key-train-6"]
    assert asked == dict.fromkeys(["key-train-0", "key-train-1", *pushed], 1)
    assert (Path(candidate[0].directory) / "report" / "report.md").is_file()
    assert (Path(candidate[0].directory) / "trainings").read_text() == "xx"  # the second finds its checkpoint
