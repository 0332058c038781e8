from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from loop_fakes import MAPPING, PROJECT, FakeLabelStudio, make_project, make_version

from imil_backend.errors import ImageError, ImilError, LabelStudioUnreachableError, NotFoundError
from imil_backend.images.masks.rle import encode_rle
from imil_backend.label_studio.labeling.label_config import load_label_config
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.policy import change_policy
from imil_backend.loop.serving.predictions import UNTRAINED, PredictionService
from imil_backend.store.tables import Dataset

CLASSES_CONFIG = """<View><Image name="img" value="$image"/>
<Choices name="finding" toName="img"><Choice value="Lesion"/><Choice value="Normal"/></Choices></View>"""
BRUSH_CONFIG = """<View><Image name="image" value="$image"/>
<BrushLabels name="mask" toName="image"><Label value="Irrelevant"/></BrushLabels></View>"""


class FakePredictor:
    """Sees a lesion in dark images. `seen` counts the images of each call."""

    seen: list[int]
    made: list[str]

    def __init__(self, directory: Path, device: str, cache: Path) -> None:
        FakePredictor.made.append(directory.name)
        self.config = SimpleNamespace(name=directory.name, classes=("lesion", "normal"), image_size=8)
        FakePredictor.seen = []

    def squash(self, image: Any) -> Any:
        return image.mean()

    def predict(self, images: list[Any]) -> Any:
        FakePredictor.seen.append(len(images))
        return np.array([[0.8, 0.2] if image < 52 else [0.3, 0.7] for image in images]).reshape(-1, 2)


@pytest.fixture
def champion(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> PredictionService:
    monkeypatch.setattr("imil_backend.learning.inference.prediction.Predictor", FakePredictor)
    FakePredictor.made = []
    return PredictionService(backend, patient=True)


def tasks(*numbers: int) -> list[dict[str, Any]]:
    return [{"id": number, "data": {"imil_sample": f"key-train-{number}"}} for number in numbers]


def test_before_the_baseline_nothing_is_loaded_and_every_task_gets_an_answer(
    champion: PredictionService,
) -> None:
    assert champion.version_name(PROJECT) == UNTRAINED
    assert champion.versions(PROJECT) == []
    assert champion.predict(PROJECT, tasks(0, 1)) == [{"result": [], "model_version": UNTRAINED}] * 2


def test_a_promotion_is_answered_from_at_once(
    champion: PredictionService, backend: Backend, dataset: Dataset
) -> None:
    make_project(backend, dataset)
    make_version(backend, dataset, "A")
    assert champion.predict(PROJECT, tasks(0), CLASSES_CONFIG)[0]["model_version"] == "A"
    make_version(backend, dataset, "B")
    assert champion.predict(PROJECT, tasks(0), CLASSES_CONFIG)[0]["model_version"] == "B"
    assert champion.version_name(PROJECT) == "B"
    assert champion.versions(PROJECT) == ["B", "A"]
    assert champion.version_name(PROJECT + 1) == champion.version_name(None) == UNTRAINED


def test_a_brush_project_gets_the_score_alone_and_a_class_project_the_class(
    champion: PredictionService, backend: Backend, dataset: Dataset
) -> None:
    make_project(backend, dataset)
    make_version(backend, dataset, "A")
    (painted,) = champion.predict(PROJECT, tasks(0), BRUSH_CONFIG)
    assert painted == {"result": [], "score": 0.8, "model_version": "A"}
    first, second = champion.predict(PROJECT, tasks(0, 5), CLASSES_CONFIG)
    assert first["result"][0]["value"] == {"choices": ["Lesion"]}
    assert (second["result"][0]["from_name"], second["result"][0]["score"]) == ("finding", 0.7)


def test_an_interactive_answer_names_no_class(
    champion: PredictionService, backend: Backend, dataset: Dataset
) -> None:
    make_project(backend, dataset)
    make_version(backend, dataset, "A")
    answered = champion.predict(PROJECT, tasks(0), CLASSES_CONFIG, {"result": []})
    assert answered == [{"result": [], "score": 0.8, "model_version": "A"}]


def test_no_score_stands_beside_the_confidence_that_the_task_shows(
    champion: PredictionService, backend: Backend, dataset: Dataset
) -> None:
    make_project(backend, dataset)
    make_version(backend, dataset, "A")
    asked = champion.predict(PROJECT, tasks(0, 5), load_label_config("blackout"))
    assert asked == [{"result": [], "model_version": "A"}] * 2
    assert FakePredictor.made == [], "for an answer that shows nothing no network is loaded"


@pytest.mark.parametrize(
    ("fill", "score"),
    [("black", 0.8), ("mean", 0.7)],  # half of the image is black now; its mean is what it was
)
def test_an_interactive_request_is_answered_without_what_was_painted_so_far(
    champion: PredictionService, backend: Backend, dataset: Dataset, fill: str, score: float
) -> None:
    with backend.store.begin() as session:
        change_policy(session.get_one(Dataset, dataset.id), {"fill": fill})
    make_project(backend, dataset)
    make_version(backend, dataset, "A")
    alpha = np.zeros((6, 8), dtype=np.uint8)
    alpha[:, :4] = 255
    region = {
        "id": "r", "type": "brushlabels", "from_name": MAPPING.brush_name, "to_name": "image",
        "original_width": 8, "original_height": 6,
        "value": {"format": "rle", "rle": encode_rle(alpha), "brushlabels": ["Irrelevant"]},
    }  # fmt: skip
    config = load_label_config("blackout")
    (whole,) = champion.predict(PROJECT, tasks(5), config, {"result": []})
    (rest,) = champion.predict(PROJECT, tasks(5), config, {"result": [region]})
    assert (whole["score"], rest["score"]) == (0.7, score)


@pytest.mark.parametrize("error", [LabelStudioUnreachableError, NotFoundError, ImageError])
def test_an_image_that_cannot_be_had_costs_its_own_prediction_only(
    champion: PredictionService,
    backend: Backend,
    dataset: Dataset,
    label_studio: FakeLabelStudio,
    error: type[ImilError],
) -> None:
    def download(path: str, seconds: float | None = None) -> bytes:
        raise error("It cannot be had.")

    label_studio.download = download  # type: ignore[attr-defined]
    make_project(backend, dataset)
    make_version(backend, dataset, "A")
    asked = [*tasks(*[0] * 9), {"id": 1, "data": {"image": "/data/absent.png"}}, *tasks(5)]
    answers = champion.predict(PROJECT, asked, BRUSH_CONFIG)
    assert [answer.get("score") for answer in answers] == [0.8] * 9 + [None, 0.7]
    assert FakePredictor.seen == [10]
