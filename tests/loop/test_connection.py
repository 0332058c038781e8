from __future__ import annotations

from typing import Any

import pytest
from loop_fakes import PROJECT, FakeLabelStudio, make_project
from sqlalchemy import select

from imil_backend.errors import LabelConfigError, LabelStudioError, RoundError
from imil_backend.label_studio.api.webhooks import Change
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.projects.connection import connect
from imil_backend.store.tables import Dataset, Project


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch, label_studio: FakeLabelStudio) -> list[str]:
    """What was made in Label Studio, in order."""
    made: list[str] = []

    def create_project(title: str, label_config: str, instructions: str, *, predictions: bool) -> int:
        assert not predictions  # which would show nothing, and every task would wait for one
        made.append(title)
        return PROJECT

    def register(what: str) -> Any:
        return lambda *_: made.append(what) or Change.CREATED

    label_studio.create_project = create_project  # type: ignore[attr-defined]
    monkeypatch.setattr("imil_backend.loop.projects.connection.ensure_webhook", register("webhook"))
    monkeypatch.setattr("imil_backend.loop.projects.connection.ensure_ml_backend", register("ML backend"))
    return made


def test_a_project_is_made_once_and_its_webhook_comes_before_the_ml_backend(
    backend: Backend, dataset: Dataset, registered: list[str]
) -> None:
    assert connect(backend, dataset).created
    assert not connect(backend, dataset, PROJECT).created
    assert registered == ["IMIL: films", "webhook", "ML backend", "webhook", "ML backend"]
    with backend.store.begin() as session:
        assert [project.label_studio_id for project in session.scalars(select(Project))] == [PROJECT]


def test_without_an_ml_backend_tasks_can_be_answered_all_the_same(
    backend: Backend, dataset: Dataset, registered: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise LabelStudioError("It does not answer.")

    monkeypatch.setattr("imil_backend.loop.projects.connection.ensure_ml_backend", refuse)
    connection = connect(backend, dataset)
    assert (connection.ml_backend, connection.problem) == (None, "It does not answer.")
    assert registered == ["IMIL: films", "webhook"]


@pytest.mark.usefixtures("registered")
def test_a_project_is_taken_by_one_dataset_and_a_dataset_has_one_project(
    backend: Backend, dataset: Dataset
) -> None:
    make_project(backend, dataset)
    with pytest.raises(RoundError, match="already uses project 3"):
        connect(backend, dataset, PROJECT + 1)
    with backend.store.begin() as session:
        other = Dataset(name="others", classes=["a", "b"])
        session.add(other)
    with pytest.raises(RoundError, match="belongs to dataset 'films'"):
        connect(backend, other, PROJECT)


def test_a_project_without_anything_to_paint_with_is_refused_and_left_alone(
    backend: Backend, dataset: Dataset, label_studio: FakeLabelStudio, registered: list[str]
) -> None:
    config = """<View><Image name="i" value="$image"/>
    <Choices name="c" toName="i"><Choice value="lesion"/><Choice value="normal"/></Choices></View>"""
    label_studio.project = lambda number: {"id": number, "label_config": config}  # type: ignore[method-assign]
    with pytest.raises(LabelConfigError, match="no label that means irrelevant"):
        connect(backend, dataset, PROJECT)
    assert registered == []


def test_another_label_studio_is_not_registered_with(
    backend: Backend, dataset: Dataset, registered: list[str]
) -> None:
    make_project(backend, dataset)
    object.__setattr__(backend.settings, "label_studio_url", "http://other.test")
    with pytest.raises(RoundError, match="Set it back"):
        connect(backend, dataset)
    assert registered == []
