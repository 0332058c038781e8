"""No request waits until a network is loaded."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from loop_fakes import PROJECT, FakeLabelStudio, make_project, make_version
from support.label_configs import classification_config

from imil_backend.errors import ImageError, WeightsError
from imil_backend.label_studio.labeling.label_config import load_label_config
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.serving import predictions
from imil_backend.loop.serving.predictions import PredictionService
from imil_backend.store.tables import Dataset, Project

CONFIG = classification_config(["lesion", "normal"])
TASKS = [{"id": 0, "data": {"imil_sample": "key-train-0"}}]
PATIENCE = 10


class SlowPredictor:
    """Takes as long to load as `go` says."""

    made: list[str]
    go: threading.Event
    damaged: str | None

    def __init__(self, directory: Path, *_: object) -> None:
        assert self.go.wait(PATIENCE)
        if directory.name == self.damaged:
            raise WeightsError("They are damaged.")
        self.made.append(directory.name)
        self.config = SimpleNamespace(name=directory.name, classes=("lesion", "normal"), image_size=8)

    def squash(self, image: Any) -> Any:
        return image

    def predict(self, images: list[Any]) -> Any:
        return np.array([[0.8, 0.2]] * len(images))


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> type[SlowPredictor]:
    SlowPredictor.made, SlowPredictor.go, SlowPredictor.damaged = [], threading.Event(), None
    monkeypatch.setattr("imil_backend.learning.inference.prediction.Predictor", SlowPredictor)
    return SlowPredictor


@pytest.fixture
def champion(backend: Backend, dataset: Dataset, slow: type[SlowPredictor]) -> PredictionService:
    make_project(backend, dataset)
    make_version(backend, dataset, "A")
    return PredictionService(backend)


def answers(champion: PredictionService, config: str = CONFIG, context: Any = None) -> list[str]:
    """The version of each answer that shows something, and "" for one that does not."""
    found = champion.predict(PROJECT, TASKS, config, context)
    return [each["model_version"] if each["result"] else "" for each in found]


def wait(champion: PredictionService) -> None:
    for thread in list(champion._networks._loading.values()):
        thread.join(PATIENCE)


def test_until_the_first_network_is_loaded_nothing_is_answered_that_label_studio_would_keep(
    champion: PredictionService, slow: type[SlowPredictor]
) -> None:
    assert answers(champion) == answers(champion) == []
    assert answers(champion, context={"result": []}) == [""]  # an interactive answer is kept nowhere
    slow.go.set()
    wait(champion)
    assert answers(champion) == ["A"]
    assert slow.made == ["A"]


def test_the_version_before_answers_until_the_promoted_one_is_loaded(
    champion: PredictionService, slow: type[SlowPredictor], backend: Backend, dataset: Dataset
) -> None:
    slow.go.set()
    answers(champion)
    wait(champion)
    slow.go.clear()
    make_version(backend, dataset, "B")
    assert champion.version_name(PROJECT, CONFIG) == "B"  # Label Studio asks this first; the loading begins
    assert answers(champion) == ["A"]
    slow.go.set()
    wait(champion)
    assert answers(champion) == ["B"]


def test_the_images_of_a_prediction_share_one_time_limit(
    champion: PredictionService,
    slow: type[SlowPredictor],
    label_studio: FakeLabelStudio,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow.go.set()
    answers(champion)
    wait(champion)
    given: list[float] = []

    def download(_: str, seconds: float) -> bytes:
        given.append(seconds)
        monkeypatch.setattr(predictions.time, "monotonic", lambda: 1e9)  # all of it was taken
        raise ImageError("It is slow.")

    monkeypatch.setattr(label_studio, "download", download)
    found = champion.predict(PROJECT, [{"id": 1, "data": {"image": "/a"}}] * 2, CONFIG)
    assert [each["result"] for each in found] == [[], []]
    assert 0 < given[0] <= predictions.FETCH_SECONDS
    assert given[1:] == []  # the second was not asked for any more


@pytest.mark.parametrize("config", [load_label_config("blackout"), "<View/>", "<View"])
def test_where_nothing_can_be_shown_nothing_is_loaded(
    champion: PredictionService, slow: type[SlowPredictor], config: str
) -> None:
    slow.go.set()
    assert champion.version_name(PROJECT, config) == "A"
    wait(champion)
    assert slow.made == []


def test_a_version_that_cannot_be_loaded_is_told_once_and_tried_again(
    champion: PredictionService, slow: type[SlowPredictor], caplog: pytest.LogCaptureFixture
) -> None:
    slow.damaged = "A"
    slow.go.set()
    answers(champion)
    wait(champion)
    with pytest.raises(WeightsError, match="damaged"):
        answers(champion)
    assert "Version A cannot be loaded: They are damaged." in caplog.text
    slow.damaged = None
    answers(champion)
    wait(champion)
    assert answers(champion) == ["A"]


@pytest.mark.parametrize(
    ("config", "connected", "loaded"),
    [
        (CONFIG, None, ["A"]),
        (CONFIG, {"ml_backend": {}}, ["A"]),
        (CONFIG, {}, []),  # Label Studio does not ask
        (load_label_config("blackout"), None, []),  # an answer shows nothing
    ],
)
def test_at_the_start_a_network_is_loaded_where_an_answer_shows_something(
    champion: PredictionService,
    slow: type[SlowPredictor],
    backend: Backend,
    label_studio: FakeLabelStudio,
    config: str,
    connected: Any,
    loaded: list[str],
) -> None:
    slow.go.set()
    label_studio.project = lambda number: {"id": number, "label_config": config}  # type: ignore[method-assign]
    with backend.store.begin() as session:
        session.query(Project).one().connected = connected
    champion.load_ahead().join(PATIENCE)
    wait(champion)
    assert slow.made == loaded


def test_without_label_studio_the_start_goes_on_and_the_first_question_loads(
    champion: PredictionService,
    slow: type[SlowPredictor],
    label_studio: FakeLabelStudio,
    caplog: pytest.LogCaptureFixture,
) -> None:
    slow.go.set()
    label_studio.down = True
    champion.load_ahead().join(PATIENCE)
    assert "loaded at the first request: Label Studio does not answer" in caplog.text
    answers(champion)
    wait(champion)
    assert answers(champion) == ["A"]
