"""Class evidence beside the images of tasks."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from loop_fakes import PROJECT, FakeLabelStudio, make_project, make_version
from PIL import Image
from sqlalchemy import select

from imil_backend.label_studio.labeling.label_config import load_label_config, read_label_config
from imil_backend.learning.contract.evidence import EVIDENCE_FILE, Evidence, write_evidence
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.projects.guide import shows_evidence
from imil_backend.loop.rounds import lifecycle
from imil_backend.loop.rounds.push import push_round
from imil_backend.store.tables import Dataset, Version


def keep_evidence(backend: Backend) -> None:
    """Of train-0 alone: the lower right corner speaks for what the version says, the rest against it."""
    cells = np.full((1, 7, 7), -1, np.float16)
    cells[0, 5:, 5:] = 2
    evidence = Evidence(("key-train-0",), np.array([0]), np.array([[0.2, 0.8]], np.float32), cells, cells)
    with backend.store.begin() as session:
        version = session.scalars(select(Version)).one()
        write_evidence(Path(version.directory) / EVIDENCE_FILE, {"train": evidence})


def pushed(backend: Backend, dataset: Dataset, label_studio: FakeLabelStudio) -> dict[str, dict[str, str]]:
    """The data of the tasks by their samples' keys."""
    make_project(backend, dataset)
    with backend.store.begin() as session:
        session.get_one(Dataset, dataset.id).policy = {"budget": 0.2}
        round_ = lifecycle.open_round(session, dataset)
    push_round(backend, round_.id)
    return {task["data"]["imil_sample"]: task["data"] for task in label_studio.tasks_there.values()}


def test_a_task_shows_what_speaks_for_the_prediction_and_one_without_evidence_nothing(
    backend: Backend, dataset: Dataset, label_studio: FakeLabelStudio
) -> None:
    make_version(backend, dataset, wrong=["train-0", "train-1"])
    keep_evidence(backend)
    label_studio.projects_there[PROJECT] = load_label_config("blackout", evidence=True)
    data = pushed(backend, dataset, label_studio)
    assert data["key-train-0"]["evidence_says"] == (
        "The finished model says normal (80%). Orange: what speaks for it."
    )
    picture = np.asarray(Image.open(io.BytesIO(label_studio.images[data["key-train-0"]["evidence"]])))
    height, width = picture.shape[:2]
    assert (picture[-1, -1, 0] > picture[-1, -1, 2] + 60) and height * 8 == width * 6
    assert np.ptp(picture[0, 0].astype(int)) < 10, "what speaks against it is not coloured"
    assert data.get("key-train-1", {"evidence": ""})["evidence"] == ""


def test_a_page_that_shows_none_is_given_none(
    backend: Backend, dataset: Dataset, label_studio: FakeLabelStudio
) -> None:
    make_version(backend, dataset, wrong=["train-0"])
    keep_evidence(backend)
    assert "evidence" not in pushed(backend, dataset, label_studio)["key-train-0"]


def test_a_damaged_file_of_evidence_does_not_hold_up_a_push(
    backend: Backend, dataset: Dataset, label_studio: FakeLabelStudio
) -> None:
    version = make_version(backend, dataset, wrong=["train-0"])
    (Path(version.directory) / EVIDENCE_FILE).write_bytes(b"damaged")
    label_studio.projects_there[PROJECT] = load_label_config("blackout", evidence=True)
    assert pushed(backend, dataset, label_studio)["key-train-0"]["evidence"] == ""


@pytest.mark.parametrize(
    ("version", "shows"), [("1.18.0", False), ("1.22.9", False), ("1.23.2", True), ("2.0", True)]
)
def test_the_page_shows_evidence_where_label_studio_can(version: str, shows: bool) -> None:
    assert shows_evidence(version) is shows


def test_images_can_still_be_uploaded_to_a_page_with_evidence() -> None:
    mapping = read_label_config(load_label_config("blackout", evidence=True))
    assert mapping.takes_uploads
    assert mapping.image_key == "image"
