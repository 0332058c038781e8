"""The whole way in the real Label Studio: classes in, mispredictions out, nothing uploaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from loop.loop_fakes import make_backend, make_version
from sqlalchemy import select
from sqlalchemy.orm import joinedload
from support.label_configs import classification_config
from support.label_studio import RunningLabelStudio
from support.push import png

from imil_backend.label_studio.api.client import LabelStudio
from imil_backend.label_studio.labeling.label_config import load_label_config
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.importing.classification_source import Fields, import_project
from imil_backend.loop.importing.importing import ImportReport
from imil_backend.loop.rounds import lifecycle
from imil_backend.loop.rounds.push import push_round
from imil_backend.store.tables import Dataset, Project, Sample, Task

pytestmark = pytest.mark.label_studio
FIELDS = Fields(group=("patient",), split="fold")


@pytest.fixture
def backend(tmp_path: Path, label_studio: RunningLabelStudio) -> Any:
    backend = make_backend(
        tmp_path / "data", label_studio_url=label_studio.url, label_studio_api_key=label_studio.api_key
    )
    yield backend
    backend.close()


@pytest.fixture
def project(client: LabelStudio) -> int:
    """Twelve films of six patients in two classes."""
    number = client.create_project("films", classification_config(["normal", "sick"]), "")
    paths = client.upload_images(number, [(f"{each}.png", png(seed=each)) for each in range(12)])
    client.import_tasks(number, [film(each, path) for each, path in enumerate(paths)])
    return number


@pytest.fixture
def client(label_studio: RunningLabelStudio) -> LabelStudio:
    return label_studio.client


def film(number: int, address: str, **more: Any) -> dict[str, Any]:
    choice = {"choices": [["normal", "sick"][number % 2]]}
    item = {"from_name": "class", "to_name": "image", "type": "choices", "value": choice}
    data = {"image": address, "patient": f"p{number // 2}", "fold": ["train", "train", "val"][number % 3]}
    return {"data": {**data, **more}, "annotations": [{"result": [item]}]}


def samples(backend: Backend) -> list[Sample]:
    with backend.store.begin() as session:
        return list(session.scalars(select(Sample).order_by(Sample.source_task)))


def imported(backend: Backend, project: int) -> ImportReport:
    return import_project(backend, project, name="films", fields=FIELDS)


def test_a_project_becomes_a_dataset_whose_samples_know_their_task_and_address(
    backend: Backend, project: int, client: LabelStudio
) -> None:
    report = imported(backend, project)
    assert (report.added, report.unlabelled, report.set_aside) == (12, 0, ())
    tasks = {task["id"]: task["data"]["image"] for task in client.tasks(project)}
    found = samples(backend)
    assert {sample.source_task: sample.address for sample in found} == tasks
    assert [sample.label for sample in found[:2]] == ["normal", "sick"]
    assert Path(found[3].path).read_bytes() == png(seed=3)
    with backend.store.begin() as session:
        assert session.scalars(select(Dataset)).one().source_project == project


def test_what_cannot_be_used_is_set_aside_with_its_reason_and_what_nobody_answered_is_counted(
    backend: Backend, project: int, client: LabelStudio
) -> None:
    broken = [
        film(0, "/data/upload/1/gone.png"),
        film(1, "http://10.1.2.3/x.png"),
        film(2, "s3://none/x.png"),
    ]
    text = client.upload_images(project, [("page.png", b"<html>log in</html>")])[0]
    broken += [film(3, text), film(4, text, patient=""), film(5, text, fold="someday")]
    client.import_tasks(project, [*broken, {"data": film(6, text)["data"]}])
    report = imported(backend, project)
    assert (report.added, report.unlabelled, len(report.set_aside)) == (12, 1, 6)
    reasons = " ".join(reason for _, reason in report.set_aside)
    for words in ("not a readable image but a web page", "'patient'", "'someday'"):
        assert words in reasons


def pushed(backend: Backend, client: LabelStudio, config: str) -> list[Task]:
    """The tasks of a round in a project with this labeling config."""
    with backend.store.begin() as session:
        dataset = session.scalars(select(Dataset)).one()
        dataset.policy = {"budget": 0.5}
    wrong = [sample for sample in samples(backend) if sample.split == "train"]
    make_version(backend, dataset, wrong=[sample.key for sample in wrong])
    brush = client.create_project("brush", config, "")
    with backend.store.begin() as session:
        session.add(Project(dataset_id=dataset.id, instance=client.url, label_studio_id=brush))
    with backend.store.begin() as session:
        round_id = lifecycle.open_round(session, dataset).id
    count = push_round(backend, round_id)
    with backend.store.begin() as session:
        tasks = list(session.scalars(select(Task).options(joinedload(Task.sample))))
    assert 0 < count == len(tasks)
    return tasks


def test_mispredictions_are_pushed_without_uploading_them_again(
    backend: Backend, project: int, client: LabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported(backend, project)
    monkeypatch.delattr(LabelStudio, "upload_images")
    for task in pushed(backend, client, load_label_config("blackout")):
        number, address, path = task.label_studio_id, task.sample.address, task.sample.path
        shown = client.request("GET", f"/api/tasks/{number}/")
        assert shown["data"]["image"] == address
        assert client.download(address) == Path(path).read_bytes()


def test_what_else_a_labeling_config_shows_comes_from_the_task_that_was_imported(
    backend: Backend, project: int, client: LabelStudio
) -> None:
    imported(backend, project)
    more = '<Text name="who" value="$patient"/><Text name="more" value="$history"/></View>'
    config = load_label_config("blackout").strip().removesuffix("</View>") + more
    for task in pushed(backend, client, config):
        data = client.request("GET", f"/api/tasks/{task.label_studio_id}/")["data"]
        assert (data["patient"], data["history"]) == (task.sample.group, "")
