"""Images in a cloud storage or in Label Studio's local files: imported, and shown in another project."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from loop.loop_fakes import make_backend
from sqlalchemy import select
from support.browser import Editor
from support.clouds import Cloud
from support.label_configs import classification_config
from support.label_studio import RunningLabelStudio
from support.push import SHOWN, png

from imil_backend.label_studio.api.storages import address_in
from imil_backend.label_studio.labeling.label_config import load_label_config
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.importing.classification_source import import_project
from imil_backend.loop.projects.existing import connect_project
from imil_backend.store.tables import Dataset, Sample

pytestmark = pytest.mark.label_studio
CLASSES = ["normal", "sick"]


@pytest.fixture(params=["s3", "gcs", pytest.param("azure", marks=pytest.mark.npm)])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


@pytest.fixture
def backend(tmp_path: Path, label_studio: RunningLabelStudio) -> Iterator[Backend]:
    backend = make_backend(
        tmp_path / "data",
        label_studio_url=label_studio.url,
        label_studio_api_key=label_studio.api_key,
        image_hosts=("127.0.0.1",),
    )
    yield backend
    backend.close()


def classify_all(label_studio: RunningLabelStudio, project: int) -> None:
    for number, task in enumerate(label_studio.client.tasks(project)):
        value = {"choices": [CLASSES[number % 2]]}
        item = {"from_name": "class", "to_name": "image", "type": "choices", "value": value}
        label_studio.client.create_annotation(task["id"], [item], 1.0)


def assert_imported_and_shown_elsewhere(backend: Backend, project: int) -> None:
    report = import_project(backend, project, name="films")
    assert (report.added, report.set_aside) == (2, ())
    labels = backend.label_studio
    elsewhere = labels.create_project("elsewhere", load_label_config("blackout"), "")
    with backend.store.begin() as session:
        samples = list(session.scalars(select(Sample)))
    for sample in samples:
        [number] = labels.import_tasks(elsewhere, [{"data": {**SHOWN, "image": sample.address}}])
        task = labels.request("GET", f"/api/tasks/{number}/")  # as the editor asks: with addresses resolved
        assert labels.download(task["data"]["image"]) == Path(sample.path).read_bytes()


def project_in(label_studio: RunningLabelStudio, cloud: Cloud, *, presign: bool) -> int:
    """A project with the cloud's images, classified."""
    project = label_studio.client.create_project(f"films in {cloud.kind}", classification_config(CLASSES), "")
    body = {**cloud.place, **cloud.keys, "project": project, "use_blob_urls": True, "presign": presign}
    made = label_studio.request("POST", f"/api/storages/{cloud.kind}", json=body)
    assert made.ok, made.text
    label_studio.request("POST", f"/api/storages/{cloud.kind}/{made.json()['id']}/sync").raise_for_status()
    classify_all(label_studio, project)
    return project


def test_images_in_a_cloud(backend: Backend, label_studio: RunningLabelStudio, cloud: Cloud) -> None:
    assert_imported_and_shown_elsewhere(backend, project_in(label_studio, cloud, presign=False))


def test_images_at_pre_signed_addresses(
    backend: Backend, label_studio: RunningLabelStudio, s3: Cloud
) -> None:
    assert_imported_and_shown_elsewhere(backend, project_in(label_studio, s3, presign=True))


@pytest.mark.browser
def test_a_browser_shows_an_image_at_its_pre_signed_address(
    label_studio: RunningLabelStudio,
    s3: Cloud,
    browser_page: Callable[[], Editor],
    caplog: pytest.LogCaptureFixture,
) -> None:
    project = project_in(label_studio, s3, presign=True)
    task, *_ = sorted(task["id"] for task in label_studio.client.tasks(project))
    assert "X-Amz-Signature" not in caplog.text
    browser_page().open_task(project, task)  # until the image is shown
    assert "X-Amz-Signature" in caplog.text  # in the simulated S3's own log


def imported(backend: Backend, label_studio: RunningLabelStudio, cloud: Cloud) -> tuple[int, Dataset, Sample]:
    """A cloud's project, the dataset that was made of it, and one of its samples."""
    project = project_in(label_studio, cloud, presign=False)
    import_project(backend, project, name="films")
    with backend.store.begin() as session:
        sample = session.scalars(select(Sample)).first()
        assert sample is not None
        return project, session.scalars(select(Dataset)).one(), sample


def test_the_storage_is_added_to_another_project_which_then_needs_the_first_no_longer(
    backend: Backend, label_studio: RunningLabelStudio, cloud: Cloud
) -> None:
    client = label_studio.client
    project, dataset, sample = imported(backend, label_studio, cloud)
    address = str(sample.address)
    elsewhere = client.create_project("elsewhere", load_label_config("blackout"), "")
    assert address_in(client, elsewhere)(address) == address
    changes = connect_project(backend, dataset, elsewhere, {}, write=True, credentials=lambda _: cloud.keys)
    assert changes.by_hand == []
    shown = str([call.shown() for call in changes.calls])
    assert not any(key in shown for key in cloud.keys.values())

    stored = address_in(client, elsewhere)(address)
    assert re.fullmatch(rf"{cloud.scheme}://films/scans/\d\.png", stored)
    client.import_tasks(elsewhere, [{"data": {**SHOWN, "image": stored}}])
    client.request("DELETE", f"/api/projects/{project}/")
    [task] = client.tasks(elsewhere)
    assert backend.label_studio.download(task["data"]["image"]) == Path(sample.path).read_bytes()


def test_a_storage_without_credentials_is_left_to_a_person(
    backend: Backend, label_studio: RunningLabelStudio, s3: Cloud
) -> None:
    _, dataset, _ = imported(backend, label_studio, s3)
    elsewhere = label_studio.client.create_project("elsewhere", load_label_config("blackout"), "")
    [by_hand] = connect_project(backend, dataset, elsewhere, {}, write=True).by_hand
    assert "bucket films" in by_hand
    assert "with its aws_access_key_id, aws_secret_access_key" in by_hand


def test_local_files(backend: Backend, label_studio: RunningLabelStudio) -> None:
    folder = label_studio.local_files / "imported"
    folder.mkdir()
    for number in range(2):
        (folder / f"{number}.png").write_bytes(png(seed=number))
    project = label_studio.client.create_project("local", classification_config(CLASSES), "")
    storage = {"project": project, "path": str(folder), "use_blob_urls": True, "regex_filter": ".*png"}
    made = label_studio.request("POST", "/api/storages/localfiles/", json=storage)
    assert made.ok, made.text
    label_studio.request("POST", f"/api/storages/localfiles/{made.json()['id']}/sync").raise_for_status()
    classify_all(label_studio, project)
    assert_imported_and_shown_elsewhere(backend, project)
