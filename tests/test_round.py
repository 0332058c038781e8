"""One whole round as a clinician and her engineer live it: real Label Studio, real browser, real training."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.browser import Editor, ImageBox, Stroke
from support.installation import Installation
from support.label_studio import RunningLabelStudio
from support.strokes import assert_is_painted

from imil_backend.label_studio.api.simulated_clinician import paint
from imil_backend.label_studio.labeling.label_config import load_label_config, read_label_config

pytestmark = [pytest.mark.label_studio, pytest.mark.browser, pytest.mark.training, pytest.mark.timeout(900)]

STROKE: Stroke = [(0.55, 0.12), (0.9, 0.12)]


@pytest.fixture
def pushed(trained: Installation) -> Installation:
    """Three tasks pushed to a project of their own; two answers close the round."""
    # Six validation groups decide nothing; these margins let any candidate through that keeps its classes.
    policy = (
        "--close-share",
        "0.6",
        "--close-quiet-seconds",
        "0",
        "--promotion-margin",
        "0.99",
        "--recall-margin",
        "0.99",
        "--auc-margin",
        "0.99",
        "--no-next-round",
    )
    trained.imil("push", "--budget", "0.07", "--fill-budget", *policy)
    return trained


def test_a_clinician_paints_and_a_new_version_answers(
    pushed: Installation, label_studio: RunningLabelStudio, browser_page: Callable[[], Editor]
) -> None:
    baseline = pushed.status()["champion"]
    project = pushed.status()["project"]
    *tasks, left_open = [task["id"] for task in label_studio.client.tasks(project)]
    editor = browser_page()
    for task in tasks:
        editor.open_task(project, task)
        editor.select_label("Irrelevant")
        box = editor.paint([STROKE])
        editor.submit()

    status = pushed.wait_for(lambda status: status["last_closed"]["number"] == 1)
    assert status["answers"] == {"blackout": len(tasks)}
    assert status["last_closed"]["verdict"]["verdict"] == "promote"
    assert status["champion"] != baseline
    _check_masks(pushed, box)

    editor.open_task(project, left_open)  # nothing is pre-filled, so Label Studio does not ask
    assert label_studio.request("GET", f"/api/tasks/{left_open}/").json()["predictions"] == []
    # One number is beside the image (the list of tasks has its own): how sure the model was when asked.
    assert len(re.findall(r"\d ?%", editor.page.inner_text(".lsf-main-view"))) == 1


def _check_masks(installation: Installation, box: ImageBox) -> None:
    """Every mask holds the stroke that was dragged and nothing else, and what it covers is black."""
    out = Path(installation.environment["IMIL_DATA_DIR"]) / "export"
    installation.imil("export", str(out))
    masks = sorted((out / "masks").iterdir())
    assert masks
    for path in masks:
        mask = np.asarray(Image.open(path)).astype(bool)
        assert_is_painted(mask, [STROKE], box)
        image = np.asarray(Image.open(out / "images" / path.name))
        assert (image[mask] == 0).all()


def test_a_round_survives_kill_9_of_all_its_processes(pushed: Installation) -> None:
    pushed.imil("simulate")
    pushed.wait_for(lambda status: status["round"]["number"] == 1 and status["round"]["training"] is not None)
    pushed.kill()
    assert pushed.processes() == []  # the training died with its worker

    pushed.start("serve")
    pushed.start("worker")
    status = pushed.wait_for(lambda status: status["last_closed"]["number"] == 1)
    assert status["answers"] == {"blackout": status["last_closed"]["tasks"]}
    assert len(json.loads(pushed.imil("models", "--json"))) == 2


def test_annotations_that_no_webhook_told_of_are_found_at_the_start(pushed: Installation) -> None:
    pushed.kill()
    pushed.imil("simulate")
    assert pushed.status()["answers"] == {}

    pushed.start("worker")
    status = pushed.wait_for(lambda status: status["last_closed"]["number"] == 1)
    assert status["answers"] == {"blackout": status["last_closed"]["tasks"]}


def test_start_training_in_label_studio_closes_the_round(
    pushed: Installation, label_studio: RunningLabelStudio
) -> None:
    status = pushed.status()
    pushed.imil("push", "--close-share", "1")
    mapping = read_label_config(label_studio.client.project(status["project"])["label_config"])
    task = next(label_studio.client.tasks(status["project"]))
    paint(label_studio.client, mapping, task["id"], np.eye(256, dtype=bool))
    pushed.wait_for(lambda status: status["answers"] == {"blackout": 1})
    assert pushed.status()["round"]["state"] == "open"

    backends = label_studio.request("GET", "/api/ml/", params={"project": status["project"]}).json()
    assert label_studio.request("POST", f"/api/ml/{backends[0]['id']}/train", json={}).ok
    pushed.wait_for(lambda status: status["last_closed"]["number"] == 1)


def test_a_project_with_the_classes_is_told_the_class_and_its_score(
    trained: Installation, label_studio: RunningLabelStudio
) -> None:
    classes = (
        '<Choices name="class" toName="image"><Choice value="Lesion"/><Choice value="Normal"/></Choices>'
    )
    config = load_label_config("blackout").rstrip().removesuffix("</View>") + classes + "</View>"
    project = label_studio.client.create_project("With classes", config, "")
    trained.imil("connect", "--project", str(project), "--predictions")
    trained.imil("push", "--budget", "0.07", "--fill-budget")
    task = next(label_studio.client.tasks(project))

    (prediction,) = label_studio.predictions(task["id"])
    assert prediction["model_version"] == trained.status()["champion"]
    (choice,) = prediction["result"]
    assert choice["value"]["choices"][0] in {"Lesion", "Normal"}
    assert 0.5 <= choice["score"] <= 1
