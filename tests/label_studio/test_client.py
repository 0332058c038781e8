from __future__ import annotations

import pytest
from support.label_studio import RunningLabelStudio
from support.push import SHOWN, png

from imil_backend.errors import LabelStudioAuthError, LabelStudioError, NotFoundError
from imil_backend.label_studio.api import client as client_module
from imil_backend.label_studio.api.client import LabelStudio
from imil_backend.label_studio.labeling.label_config import load_label_config

pytestmark = pytest.mark.label_studio

NOTHING = {
    "from_name": "review",
    "to_name": "image",
    "type": "choices",
    "value": {"choices": ["nothing_to_black_out"]},
}


def import_tasks(client: LabelStudio, project: int, count: int) -> list[int]:
    tasks = [{"data": {**SHOWN, "image": f"/data/{number}.png"}} for number in range(count)]
    return client.import_tasks(project, tasks)


@pytest.fixture(params=["legacy", "personal"])
def either_client(request: pytest.FixtureRequest, label_studio: RunningLabelStudio) -> LabelStudio:
    """A client by each kind of token."""
    token = label_studio.api_key if request.param == "legacy" else label_studio.personal_access_token
    return LabelStudio(label_studio.url, token)


def test_both_kinds_of_token_read_write_and_download(either_client: LabelStudio) -> None:
    assert either_client.version().startswith("1.")
    project = either_client.create_project("either", load_label_config("blackout"), "")
    image = png()
    path = either_client.upload_image(project, "sample 1.png", image)
    assert path.startswith("/data/upload/")
    assert either_client.download(path) == image
    assert either_client.download(either_client.url + path) == image
    [task] = either_client.import_tasks(project, [{"data": {**SHOWN, "image": path}}])
    annotation = either_client.create_annotation(task, [NOTHING], 3.5)
    read = either_client.annotation(annotation)
    assert read is not None
    assert (read["task"], read["lead_time"], read["result"]) == (task, 3.5, [NOTHING])


def test_local_files_are_downloaded_with_both_kinds_of_token(
    either_client: LabelStudio, project: int, label_studio: RunningLabelStudio
) -> None:
    folder = label_studio.local_files / "images"
    folder.mkdir(exist_ok=True)
    (folder / "a b.png").write_bytes(png())
    storage = {"project": project, "path": str(folder), "use_blob_urls": True}
    label_studio.request("POST", "/api/storages/localfiles/", json=storage).raise_for_status()
    assert either_client.download("/data/local-files/?d=images/a%20b.png") == png()


def test_uploads_keep_their_order_and_kind(client: LabelStudio, project: int) -> None:
    images = [(f"s{number}.{'png' if number % 2 else 'jpg'}", png(seed=number)) for number in range(5)]
    paths = client.upload_images(project, images)
    assert [client.download(path) for path in paths] == [content for _, content in images]


def test_tasks_are_paged(client: LabelStudio, project: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PAGE_SIZE", 2)
    ids = import_tasks(client, project, 5)
    assert [task["id"] for task in client.tasks(project)] == ids
    assert "annotations" not in next(client.tasks(project))


def test_tasks_are_named_and_come_with_or_without_their_annotations(
    client: LabelStudio, project: int, label_studio: RunningLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "NAMED_TASKS", 2)
    first, second, third, _ = import_tasks(client, project, 4)
    elsewhere = client.create_project("Elsewhere", load_label_config("blackout"), "")
    skipped = label_studio.request(
        "POST", f"/api/tasks/{first}/annotations/", json={"result": [], "was_cancelled": True}
    ).json()["id"]
    painted = client.create_annotation(third, [NOTHING], 1.0)
    named = [third, second, first, 10**6]
    assert {task["id"] for task in client.named_tasks(project, named)} == {first, second, third}
    assert "annotations" not in next(client.named_tasks(project, [third]))
    assert list(client.named_tasks(elsewhere, named)) == []
    assert list(client.named_tasks(project, [])) == []
    whole = {task["id"]: task["annotations"] for task in client.named_tasks(project, named, whole=True)}
    for number, annotation in ((first, skipped), (third, painted)):
        [listed] = whole[number]
        alone = client.annotation(annotation)
        assert alone is not None
        used = ("id", "task", "result", "was_cancelled", "completed_by", "created_at", "updated_at")
        assert {name: listed[name] for name in used} == {name: alone[name] for name in used}
    assert whole[second] == []


def test_annotations_are_listed_without_regions_as_they_come_change_and_go(
    client: LabelStudio, project: int, label_studio: RunningLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "PAGE_SIZE", 1)
    assert list(client.annotation_summaries(project)) == []
    tasks = import_tasks(client, project, 3)
    assert list(client.annotation_summaries(project)) == []
    first = client.create_annotation(tasks[0], [NOTHING], 1.0)
    second = client.create_annotation(tasks[0], [NOTHING], 1.0)
    skipped = label_studio.request(
        "POST", f"/api/tasks/{tasks[2]}/annotations/", json={"result": [], "was_cancelled": True}
    ).json()["id"]
    assert len(list(client.annotation_summaries(project))) == 3
    before = {summary.annotation_id: summary for summary in client.annotation_summaries(project)}
    assert {key: summary.task_id for key, summary in before.items()} == {
        first: tasks[0],
        second: tasks[0],
        skipped: tasks[2],
    }
    label_studio.request("PATCH", f"/api/annotations/{skipped}/", json={"was_cancelled": False})
    label_studio.request("DELETE", f"/api/annotations/{first}/")
    after = {summary.annotation_id: summary for summary in client.annotation_summaries(project)}
    assert set(after) == {second, skipped}
    assert after[skipped].task_updated_at > before[skipped].task_updated_at
    assert after[second].task_updated_at > before[second].task_updated_at


def test_no_annotation_is_missed_where_label_studio_cuts_the_list_off(
    client: LabelStudio, project: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "IDS_CHARACTERS", 3)
    [task] = import_tasks(client, project, 1)
    created = {client.create_annotation(task, [NOTHING], 1.0) for _ in range(3)}
    assert {summary.annotation_id for summary in client.annotation_summaries(project)} == created


def test_what_is_gone_is_none(client: LabelStudio, project: int) -> None:
    assert client.annotation(10**6) is None
    with pytest.raises(NotFoundError, match="No Project matches"):
        client.project(10**6)


def test_what_label_studio_refuses_is_explained(client: LabelStudio, project: int) -> None:
    with pytest.raises(LabelStudioError, match="title"):
        client.create_project("x", load_label_config("blackout"), "")
    with pytest.raises(LabelStudioError, match="image"):
        client.import_tasks(project, [{"data": SHOWN}])


def test_the_instructions_are_shown_and_empty_submissions_are_not_offered(
    client: LabelStudio, project: int
) -> None:
    settings = client.project(project)
    assert settings["expert_instruction"] == "Paint <b>the marker</b>."
    assert settings["show_instruction"]
    assert not settings["enable_empty_annotation"]


def test_an_unknown_token_is_named(label_studio: RunningLabelStudio) -> None:
    token = "f" * 40
    with pytest.raises(LabelStudioAuthError, match="does not accept the token") as caught:
        LabelStudio(label_studio.url, token).project(1)
    assert token not in str(caught.value)


def test_a_legacy_token_that_is_switched_off_is_named_with_its_setting(
    label_studio: RunningLabelStudio,
) -> None:
    personal = LabelStudio(label_studio.url, label_studio.personal_access_token)

    def legacy_tokens(enabled: bool) -> None:
        body = {"api_tokens_enabled": True, "legacy_api_tokens_enabled": enabled}
        personal.request("POST", "/api/jwt/settings", body=body)

    legacy_tokens(False)
    try:
        with pytest.raises(LabelStudioAuthError, match="Organization > Access Token Settings"):
            label_studio.client.project(1)
    finally:
        legacy_tokens(True)


def test_an_image_that_is_not_there_is_not_found(client: LabelStudio) -> None:
    with pytest.raises(NotFoundError):
        client.download("/data/upload/1/nothing.png")
