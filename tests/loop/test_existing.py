"""Connecting an existing project, and letting it go: in the real Label Studio, and what is refused before."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from loop_fakes import FakeLabelStudio, make_backend, make_dataset
from support.http_server import Answer, LocalServer, Request, serve
from support.label_studio import RunningLabelStudio
from support.snapshot import differing, snapshot

from imil_backend.errors import AmbiguousConfigError, LabelConfigError, LabelStudioError, RoundError
from imil_backend.label_studio.labeling.label_config import load_label_config
from imil_backend.loop.base.backend import Backend, project_of
from imil_backend.loop.projects.connection import connect
from imil_backend.loop.projects.disconnection import disconnect_project
from imil_backend.loop.projects.existing import connect_project
from imil_backend.loop.projects.mapping import mapping_of
from imil_backend.store.tables import Dataset, Project

PAINTED = """<View>
  <!-- </View> is no end here -->
  <Image name="film" value="$url"/><Image name="earlier" value="$earlier"/>
  <BrushLabels   name="brush" toName="film"><Label value="Tubus"/><Label value="Lunge"/></BrushLabels>
</View>"""
CLASSES = """<View><Image name="film" value="$url"/>
  <Choices name="mask" toName="film"><Choice value="lesion"/><Choice value="normal"/></Choices>\t
</View>
"""
MEANINGS = {"image": "film", "irrelevant": ["tubus"], "relevant": ["Lunge"]}


@pytest.fixture
def own_server() -> Iterator[LocalServer]:
    """This backend, as far as Label Studio asks it when it is registered."""

    def answer(request: Request) -> Answer:
        return Answer(200, {"model_version": "v1"} if request.path == "/setup" else {"status": "UP"})

    with serve(answer) as server:
        yield server


@pytest.fixture
def real(tmp_path: Path, real_label_studio: RunningLabelStudio, own_server: LocalServer) -> Iterator[Backend]:
    """A backend on the real Label Studio."""
    backend = make_backend(
        tmp_path / "real",
        label_studio_url=real_label_studio.url,
        label_studio_api_key=real_label_studio.api_key,
        public_url=own_server.url,
    )
    yield backend
    backend.close()


@pytest.fixture
def films(real: Backend) -> Dataset:
    return make_dataset(real)


def project_with(label_studio: RunningLabelStudio, config: str) -> int:
    """A project of somebody else, with a webhook, a view, a task and an annotation."""
    body = {"title": "Of others", "label_config": config, "color": "#123456", "sampling": "Uniform sampling"}
    project = int(label_studio.request("POST", "/api/projects/", json=body).json()["id"])
    hook = {"project": project, "url": "http://127.0.0.1:9/theirs", "send_for_all_actions": True}
    made = [
        label_studio.request("POST", "/api/webhooks/", json=hook),
        label_studio.request("POST", "/api/dm/views/", json={"project": project, "data": {"title": "Mine"}}),
        label_studio.request(
            "POST",
            f"/api/projects/{project}/import",
            json=[
                {"data": {"url": "/a.png", "earlier": "/b.png"}, "annotations": [{"result": []}]},
            ],
        ),
    ]
    assert all(answer.ok for answer in made)
    return project


def kept_project(backend: Backend, dataset: Dataset) -> Project:
    with backend.store.begin() as session:
        project = project_of(session, dataset.id)
    assert project is not None
    return project


@pytest.mark.label_studio
def test_a_connection_adds_the_webhook_alone_and_disconnecting_takes_it_back(
    real: Backend, films: Dataset, real_label_studio: RunningLabelStudio
) -> None:
    number = project_with(real_label_studio, PAINTED)
    before = snapshot(real_label_studio, number)
    planned = connect_project(real, films, number, MEANINGS, rehearsal=True)
    assert differing(before, snapshot(real_label_studio, number)) == set()
    done = connect_project(real, films, number, MEANINGS)
    assert done.calls == planned.calls
    assert [call.path for call in done.calls] == ["/api/webhooks/"]
    assert "***" in str(done.calls[0].shown())
    assert real.webhook_secrets[0] not in str(done.calls[0].shown())
    assert differing(before, snapshot(real_label_studio, number)) == {"webhooks"}
    assert connect_project(real, films, number, {}).calls == []  # never doubled; the choices were kept
    mapping = mapping_of(real, kept_project(real, films))
    assert (mapping.labels.irrelevant, mapping.labels.relevant) == ({"Tubus"}, {"Lunge"})
    disconnect_project(real, kept_project(real, films))
    assert differing(before, snapshot(real_label_studio, number)) == set()


@pytest.mark.label_studio
def test_what_was_added_to_the_config_and_the_ml_backend_are_taken_back_too(
    real: Backend, films: Dataset, real_label_studio: RunningLabelStudio
) -> None:
    number = project_with(real_label_studio, CLASSES)
    before = snapshot(real_label_studio, number)
    with pytest.raises(LabelConfigError, match=r'\+<BrushLabels name="imil_mask" toName="film">'):
        connect_project(real, films, number, {}, write=False)
    assert differing(before, snapshot(real_label_studio, number)) == set()
    connect_project(real, films, number, {}, write=True, predictions=True)
    after = snapshot(real_label_studio, number)
    changed = {"label_config", "model_version", "enable_empty_annotation"}
    assert {"webhooks", "ML backends", *(f"project.{name}" for name in changed)} <= differing(before, after)
    assert not after["project"]["enable_empty_annotation"]
    config = after["project"]["label_config"]
    assert "$evidence_says" in config
    begin, image, rest = CLASSES.rstrip().partition("<Image")
    assert config.startswith(begin)
    assert config.endswith(image + rest)
    assert [tab["data"]["title"] for tab in after["views"]] == ["Mine", "Please look again"]
    assert mapping_of(real, kept_project(real, films)).paints
    taken_back = disconnect_project(real, kept_project(real, films))
    assert taken_back.left == []
    assert differing(before, snapshot(real_label_studio, number)) == set()


@pytest.mark.label_studio
def test_a_config_that_somebody_annotated_with_stays(
    real: Backend, films: Dataset, real_label_studio: RunningLabelStudio
) -> None:
    number = project_with(real_label_studio, CLASSES)
    connect_project(real, films, number, {}, write=True)
    task = next(real.label_studio.tasks(number))["id"]
    choice = {"type": "choices", "value": {"choices": ["unreadable"]}}
    region = {"from_name": "review", "to_name": "film", **choice}
    real.label_studio.create_annotation(task, [region], 1.0)
    [left] = disconnect_project(real, kept_project(real, films)).left
    assert "somebody has annotated" in left
    assert "imil_mask" in real.label_studio.project(number)["label_config"]


@pytest.mark.label_studio
def test_a_storage_that_the_images_lie_in_is_offered_added_and_taken_back(
    real: Backend, films: Dataset, real_label_studio: RunningLabelStudio
) -> None:
    source, number = (project_with(real_label_studio, PAINTED) for _ in range(2))
    folder = real_label_studio.local_files / "connected"
    folder.mkdir()
    films.source_instance, films.source_project = real_label_studio.url, source
    body = {"project": source, "path": str(folder), "use_blob_urls": True, "regex_filter": ".*png"}
    real_label_studio.request("POST", "/api/storages/localfiles/", json=body).raise_for_status()
    before = snapshot(real_label_studio, number)
    [offered] = connect_project(real, films, number, MEANINGS).offers
    assert f"localfiles: path {folder}" in offered
    connect_project(real, films, number, MEANINGS, write=True)
    after = snapshot(real_label_studio, number)
    assert "import from localfiles" in differing(before, after)
    assert after["import from localfiles"][0]["regex_filter"] == ".*png"
    assert after["tasks"] == before["tasks"]  # not synced
    again = connect_project(real, films, number, MEANINGS, write=True)
    assert (again.calls, again.offers) == ([], [])
    disconnect_project(real, kept_project(real, films))
    assert differing(before, snapshot(real_label_studio, number)) == set()


@pytest.mark.label_studio
def test_what_label_studio_refused_is_not_taken_for_done(
    tmp_path: Path, real_label_studio: RunningLabelStudio
) -> None:
    with closing(
        make_backend(
            tmp_path / "down",
            label_studio_url=real_label_studio.url,
            label_studio_api_key=real_label_studio.api_key,
            public_url="http://127.0.0.1:9",  # nothing answers there, so Label Studio refuses the ML backend
        )
    ) as backend:
        films, number = make_dataset(backend), project_with(real_label_studio, CLASSES)
        before = snapshot(real_label_studio, number)
        with pytest.raises(LabelStudioError):
            connect_project(backend, films, number, {}, write=True, predictions=True)
        assert set(kept_project(backend, films).connected or {}) == {"webhook", "label_config"}
        connect_project(backend, films, number, {})
        assert connect(backend, films).ml_backend is None
        disconnect_project(backend, kept_project(backend, films))
        assert differing(before, snapshot(real_label_studio, number)) == set()


def test_labels_that_are_not_there_are_refused(
    backend: Backend, dataset: Dataset, label_studio: FakeLabelStudio
) -> None:
    label_studio.project = lambda number: {"id": number, "label_config": PAINTED}  # type: ignore[method-assign]
    with pytest.raises(LabelConfigError, match=r"no label Draht .* Its labels: Lunge, Tubus"):
        connect_project(backend, dataset, 7, {"image": "film", "irrelevant": ["Draht"]})
    with pytest.raises(LabelConfigError, match=r"no label Tubuss .* Its labels: Lunge, Tubus"):
        connect_project(backend, dataset, 7, {**MEANINGS, "irrelevant": ["Tubus", "Tubuss"]})
    with pytest.raises(LabelConfigError, match="Choose one with --image: film, earlier"):
        connect_project(backend, dataset, 7, {})


def test_which_choices_carries_the_class_is_found_asked_for_and_kept(
    backend: Backend, dataset: Dataset, label_studio: FakeLabelStudio
) -> None:
    def project_with(**choices: str) -> None:
        """With Choices of these names, each with these choices."""
        tags = [
            f'<Choices name="{name}" toName="film">'
            + "".join(f'<Choice value="{value}"/>' for value in values.split())
            + "</Choices>"
            for name, values in choices.items()
        ]
        config = "".join([*PAINTED.rpartition("</View>")[:1], *tags, "</View>"])
        label_studio.project = lambda number: {"id": number, "label_config": config}  # type: ignore[method-assign]

    several = {"quality": "good bad", "first": "Lesion normal other"}
    project_with(**several)
    connect_project(backend, dataset, 7, MEANINGS, predictions=True, rehearsal=True)
    project_with(**several, second="lesion normal")
    with pytest.raises(AmbiguousConfigError, match=r"--class-choices: first, second") as refused:
        connect_project(backend, dataset, 7, MEANINGS, predictions=True)
    assert refused.value.choices == ("first", "second")
    with pytest.raises(AmbiguousConfigError, match="No Choices 'quality' holds the classes"):
        connect_project(backend, dataset, 7, {**MEANINGS, "class_choices": "quality"})
    connect_project(backend, dataset, 7, {**MEANINGS, "class_choices": "second"})
    assert mapping_of(backend, kept_project(backend, dataset)).class_choices_name == "second"


def test_a_project_with_answers_is_kept_and_not_taken_up_again_by_a_push(
    backend: Backend, dataset: Dataset, label_studio: FakeLabelStudio, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    config = load_label_config("blackout")
    label_studio.project = lambda number: {"id": number, "label_config": config}  # type: ignore[method-assign]
    connect(backend, dataset, 7)  # as a push does
    assert len(label_studio.webhooks) == 1
    assert backend.webhook_secrets[0] not in caplog.text
    with pytest.raises(RoundError, match="is in project 7"):
        connect_project(backend, dataset, 8, {})
    project = kept_project(backend, dataset)
    disconnect_project(backend, project)
    assert label_studio.webhooks == []
    with backend.store.begin() as session:
        assert project_of(session, dataset.id) is None  # nothing was asked there
