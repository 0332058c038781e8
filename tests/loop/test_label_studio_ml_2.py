"""The model of label-studio-ml, on a stand-in for the base class of 2.x, which PyPI does not have."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from flask import Flask, Response, jsonify, request
from loop_fakes import PROJECT, make_backend, make_dataset, make_project, make_version

from imil_backend.errors import ImilError, RoundError, StoreError
from imil_backend.loop.running.events import Events

pytestmark = pytest.mark.slow  # databases

MODULE = "imil_backend.label_studio_ml_model"


class Base:
    """With the signatures of 2.x: made for each request, by project and labeling config."""

    def __init__(self, project_id: str | None = None, label_config: str | None = None) -> None:
        self.project_id, self.label_config = project_id or "", label_config
        self.kept: dict[str, str] = {}
        self.setup()

    def setup(self) -> None:
        pass

    def set(self, key: str, value: str) -> None:
        self.kept[key] = value


class RecordedEvents:
    """In the place of the queue."""

    seen: list[Any] = []  # noqa: RUF012

    def __init__(self, _: Any) -> None:
        pass

    def record(self, payload: dict[str, Any]) -> SimpleNamespace:
        self.seen.append(payload)
        return SimpleNamespace(workflow_ids=["sync-5"])

    def start_training(self, project: int) -> str:
        self.seen.append(project)
        return "train-1"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    base = ModuleType("label_studio_ml.model")
    base.LabelStudioMLBase = Base  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "label_studio_ml", ModuleType("label_studio_ml"))
    monkeypatch.setitem(sys.modules, "label_studio_ml.model", base)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMIL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://label-studio.test")
    backend = make_backend(tmp_path / "data")
    make_project(backend, dataset := make_dataset(backend))
    make_version(backend, dataset, "films-round0", wrong=[])
    # Anew: the package's attribute is the module of the test before, with that one's settings.
    label_studio_ml_model = import_module(MODULE)
    monkeypatch.setattr(label_studio_ml_model, "Events", RecordedEvents)
    RecordedEvents.seen.clear()
    yield label_studio_ml_model
    label_studio_ml_model._champion()._backend.close()
    backend.close()
    sys.modules.pop(MODULE, None)


def test_setup_names_the_champion(module: Any) -> None:
    assert module.ImilModel(project_id=str(PROJECT), label_config="<View/>").kept == {
        "model_version": "films-round0"
    }
    assert module.ImilModel().kept == {"model_version": "imil-untrained"}


def test_fit_records_the_event_for_the_worker(module: Any) -> None:
    model = module.ImilModel(project_id=str(PROJECT), label_config="<View/>")
    annotation = {"annotation": {"id": 5}, "project": {"id": PROJECT}}
    assert model.fit("ANNOTATION_CREATED", annotation) == {"jobs": ["sync-5"]}
    assert model.fit("START_TRAINING", {"project": {"id": PROJECT}}) == {"job": "train-1"}
    assert RecordedEvents.seen == [{**annotation, "action": "ANNOTATION_CREATED"}, PROJECT]


def post_start_training(module: Any, project: int) -> Response:
    """As 2.x takes the button's request: fit() runs within it, and nothing there catches what it raises."""
    app = Flask("label_studio_ml")

    @app.post("/webhook")
    def webhook() -> tuple[Response, int]:
        data = request.get_json()
        event = data.pop("action")
        model = module.ImilModel(str(data["project"]["id"]), label_config=data["project"]["label_config"])
        return jsonify({"result": model.fit(event, data), "status": "ok"}), 201

    body = {"action": "START_TRAINING", "project": {"id": project, "label_config": "<View/>"}}
    return app.test_client().post("/webhook", json=body)


@pytest.mark.parametrize(
    ("project", "status", "words"),
    [(PROJECT, 409, "No round has been opened"), (PROJECT + 1, 404, "not managed by this backend")],
)
def test_a_training_that_cannot_start_is_answered_with_the_reason(
    module: Any, monkeypatch: pytest.MonkeyPatch, project: int, status: int, words: str
) -> None:
    monkeypatch.setattr(module, "Events", Events)
    answer = post_start_training(module, project)
    assert (answer.status_code, answer.is_json) == (status, True)
    assert words in answer.get_json()["error"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RoundError("Round 2 is training; only an open round can be closed."), 409),
        (StoreError("The database is locked."), 503),
    ],
)
def test_every_refusal_is_answered_as_the_own_server_does(
    module: Any, monkeypatch: pytest.MonkeyPatch, error: ImilError, status: int
) -> None:
    def refuse(*_: Any) -> None:
        raise error

    monkeypatch.setattr(RecordedEvents, "start_training", refuse)
    answer = post_start_training(module, PROJECT)
    assert (answer.status_code, answer.get_json()) == (status, {"error": str(error)})
    with pytest.raises(type(error)):  # 1.0.9 calls it in a process of its own: its log has it
        module.ImilModel().fit((), event="START_TRAINING", data={"project": {"id": PROJECT}})


def test_a_training_that_starts_is_answered_with_its_job(module: Any) -> None:
    answer = post_start_training(module, PROJECT)
    assert (answer.status_code, answer.get_json()) == (201, {"result": {"job": "train-1"}, "status": "ok"})


def test_a_project_of_which_nothing_is_known_is_answered_without_a_class(module: Any) -> None:
    model = module.ImilModel(project_id="99", label_config="<View/>")
    assert model.predict([{"id": 1, "project": 99}], context={"result": []}) == [
        {"result": [], "model_version": "imil-untrained"}
    ]
