"""Images in a cloud storage or in Label Studio's local files: imported, and shown in another project."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from loop.loop_fakes import make_backend
from moto.server import ThreadedMotoServer
from sqlalchemy import select
from support.label_studio import RunningLabelStudio
from support.push import SHOWN, png

from imil_backend.label_studio.config_map import classification_config, load_label_config
from imil_backend.label_studio.storages import address_in
from imil_backend.loop.backend import Backend
from imil_backend.loop.classification_source import import_project
from imil_backend.loop.existing import connect_project
from imil_backend.store.tables import Dataset, Sample

pytestmark = pytest.mark.label_studio
KEYS = {"aws_access_key_id": "simulated", "aws_secret_access_key": "simulated"}
CLASSES = ["normal", "sick"]


@pytest.fixture
def s3() -> Iterator[str]:
    """A simulated S3 with a bucket of two images; gives its address."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **KEYS)
    client.create_bucket(Bucket="films")
    for number in range(2):
        client.put_object(Bucket="films", Key=f"scans/{number}.png", Body=png(seed=number))
    yield url
    server.stop()


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


@pytest.mark.parametrize("presign", [True, False])
def test_s3(backend: Backend, label_studio: RunningLabelStudio, s3: str, presign: bool) -> None:
    project = label_studio.client.create_project("films in S3", classification_config(CLASSES), "")
    storage = {
        "project": project, "bucket": "films", "prefix": "scans", "use_blob_urls": True, "presign": presign,
        "s3_endpoint": s3, "region_name": "us-east-1", **KEYS,
    }  # fmt: skip
    made = label_studio.request("POST", "/api/storages/s3", json=storage)
    assert made.ok, made.text
    label_studio.request("POST", f"/api/storages/s3/{made.json()['id']}/sync").raise_for_status()
    classify_all(label_studio, project)
    assert_imported_and_shown_elsewhere(backend, project)


def test_the_storage_is_added_to_another_project_which_then_needs_the_first_no_longer(
    backend: Backend, label_studio: RunningLabelStudio, s3: str
) -> None:
    client = label_studio.client
    project = client.create_project("films in S3", classification_config(CLASSES), "")
    place = {"bucket": "films", "prefix": "scans", "s3_endpoint": s3, "region_name": "us-east-1"}
    body = {**place, **KEYS, "project": project, "use_blob_urls": True}
    made = label_studio.request("POST", "/api/storages/s3", json=body).json()
    label_studio.request("POST", f"/api/storages/s3/{made['id']}/sync").raise_for_status()
    classify_all(label_studio, project)
    import_project(backend, project, name="films")
    with backend.store.begin() as session:
        dataset, sample = session.scalars(select(Dataset)).one(), session.scalars(select(Sample)).first()
    assert sample is not None
    address, content = str(sample.address), Path(sample.path).read_bytes()

    elsewhere = client.create_project("elsewhere", load_label_config("blackout"), "")
    assert address_in(client, elsewhere)(address) == address
    [by_hand] = connect_project(backend, dataset, elsewhere, {}, write=True).by_hand
    assert "bucket films" in by_hand
    assert "with its aws_access_key_id, aws_secret_access_key" in by_hand
    changes = connect_project(backend, dataset, elsewhere, {}, write=True, credentials=lambda _: KEYS)
    assert changes.by_hand == []
    assert "simulated" not in str([call.shown() for call in changes.calls])

    stored = address_in(client, elsewhere)(address)
    assert re.fullmatch(r"s3://films/scans/\d\.png", stored)
    client.import_tasks(elsewhere, [{"data": {**SHOWN, "image": stored}}])
    client.request("DELETE", f"/api/projects/{project}/")
    [task] = client.tasks(elsewhere)
    assert backend.label_studio.download(task["data"]["image"]) == content


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
