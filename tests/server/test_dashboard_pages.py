"""What the pages of samples, versions and the machine answer to what they are asked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from loop_fakes import (
    RESULT,
    FakeLabelStudio,
    make_backend,
    make_dataset,
    make_project,
    make_round,
    make_version,
    mask_of,
    write_mask,
)
from sqlalchemy import select
from test_dashboard import app_of

from imil_backend.learning.contract.training_job import (
    PREDICTIONS_FILE,
    RESULT_FILE,
    read_json,
    write_json,
)
from imil_backend.loop.answers.sample_states import save_mask
from imil_backend.loop.base import audit
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.states import PAINTED, Purpose
from imil_backend.loop.dashboard.machine import checks
from imil_backend.loop.evaluation.kept import evaluate_version
from imil_backend.loop.queues.engine import prepare
from imil_backend.store.tables import Annotation, Task, Version, now


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    """An open round of train-0 to train-3 that the first version was asked for."""
    monkeypatch.setattr(checks, "examine", lambda *_, **__: [])
    backend = make_backend(tmp_path / "data")
    prepare(backend)
    dataset = make_dataset(backend)
    names = [f"train-{number}" for number in range(4)]
    version = make_version(backend, dataset, wrong=names)
    make_round(backend, FakeLabelStudio(), make_project(backend, dataset), version, names)
    yield backend
    backend.close()


@pytest.fixture
def visitor(backend: Backend) -> FlaskClient:
    return app_of(backend).test_client()


def keep_evaluation(backend: Backend) -> None:
    with backend.store.begin() as session:
        version = session.get_one(Version, 1)
        epochs = [{"epoch": 1, "train_loss": 0.7, "validation": {"loss": 0.5, "accuracy": 0.75}}]
        write_json(Path(version.directory) / RESULT_FILE, {**RESULT, "epochs": epochs, "best_epoch": 1})
        evaluate_version(session, version)


def test_filters_stay_chosen_and_go_with_the_next_page(visitor: FlaskClient) -> None:
    page = visitor.get("/dashboard/datasets/1/samples?label=lesion&order=margin&model=wrong").text
    assert "<option selected>lesion</option>" in page
    assert '<option value="margin" selected>' in page
    assert "2 of 14 samples" in page


def test_annotators_are_shown_with_their_gold_tasks_by_letter(backend: Backend, visitor: FlaskClient) -> None:
    assert "Gold tasks" not in visitor.get("/dashboard/datasets/1/annotators").text
    with backend.store.begin() as session:
        task = session.scalars(select(Task)).first()
        assert task is not None
        task.purpose = Purpose.GOLD.value
        task.sample.clinician_mask = str(write_mask(backend.path("known.png"), mask_of(1, 2)))
        task.sample.clinician_mask_means = "irrelevant"
        annotation = Annotation(
            project_id=1, label_studio_id=9, label_studio_created_at=now(), label_studio_updated_at=now(),
            task_id=task.id, sample_id=task.sample_id, annotator=4711, answer=PAINTED,
            mask_sha256=save_mask(backend, mask_of(2, 3)),
        )  # fmt: skip
        session.add(annotation)
        session.flush()
        audit.note_answer(session, audit.ANSWERED, annotation)
    page = " ".join(re.sub("<[^>]+>", " ", visitor.get("/dashboard/datasets/1/annotators").text).split())
    assert "Gold tasks Dice with known masks annotator A 1 1 - - 1 of 1 0.50 (1 tasks)" in page
    assert "4711" not in page


def test_the_machine_is_loaded_again_only_if_one_asks_for_it(visitor: FlaskClient) -> None:
    assert "Refresh" not in visitor.get("/dashboard/machine").headers
    live = visitor.get("/dashboard/machine?live=1")
    assert live.headers["Refresh"] == "5"
    assert "Stop" in live.text


def test_a_version_shows_the_figures_of_its_files_and_its_plots(
    backend: Backend, visitor: FlaskClient
) -> None:
    with backend.store.begin() as session:
        path = Path(session.get_one(Version, 1).directory) / PREDICTIONS_FILE
    predictions = read_json(path)
    predictions["validation"]["probabilities"][1] = [0.7, 0.3]  # of four samples of two classes
    write_json(path, predictions)
    keep_evaluation(backend)
    answer = visitor.get("/dashboard/datasets/1/versions/1")
    page = " ".join(re.sub(r"<[^>]*>", " ", answer.text).split())
    assert "4 samples of 4 groups" in page
    assert "accuracy 0.750 (95%: " in page
    assert "recall of lesion 1.000 (95%: " in page
    assert "recall of normal 0.500 (95%: " in page
    assert "lesion 2 of 2 0 of 2 normal 1 of 2 1 of 2" in page
    # Sure by 0.9 of three that are right, by 0.7 of one that is wrong.
    assert "expected calibration error 0.250" in page
    assert "looked at 1 time" in page
    plot = visitor.get("/dashboard/datasets/1/versions/1/plots/roc-validation.svg")
    assert plot.mimetype == "image/svg+xml"


def test_thumbnails_stay_in_no_cache(visitor: FlaskClient) -> None:
    image = visitor.get("/dashboard/datasets/1/thumbnails/key-train-0.jpg")
    assert (image.mimetype, image.headers["Cache-Control"]) == ("image/jpeg", "private, no-store")


def test_what_is_not_there_is_a_page_that_says_so(visitor: FlaskClient) -> None:
    for path in (
        "/dashboard/datasets/9/samples",
        "/dashboard/datasets/1/versions/9",
        "/dashboard/datasets/1/versions/1/plots/..%2f..%2fsecrets",
        "/dashboard/datasets/1/thumbnails/nobody.jpg",
    ):
        answer = visitor.get(path)
        assert (answer.status_code, answer.mimetype) == (404, "text/html")
