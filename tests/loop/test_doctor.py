"""The doctor, by things that really go wrong."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from loop_fakes import make_backend, make_dataset
from sqlalchemy import select, text
from support.http_server import Answer, Request, serve
from support.label_studio import RunningLabelStudio, free_port
from support.people import join
from support.push import png
from typer.testing import CliRunner

from imil_backend.cli import app
from imil_backend.label_studio.labeling.label_config import load_label_config
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.upkeep.check_results import CheckResult, State
from imil_backend.loop.upkeep.doctor import examine
from imil_backend.loop.upkeep.doctor_probe import TITLE, _listening
from imil_backend.store.tables import Dataset, Sample

pytestmark = pytest.mark.slow  # servers and databases

OK, WARNING, FAILED = State.OK, State.WARNING, State.FAILED


@pytest.fixture
def look_at(tmp_path: Path) -> Iterator[Any]:
    """Examine a backend with these settings; gives the results by subject."""
    backends: list[Backend] = []

    def examined(
        *, probe: bool = False, prepare: Callable[[Backend], None] = lambda _: None, **settings: object
    ) -> dict[str, CheckResult]:
        backends.append(make_backend(tmp_path / str(len(backends)), **settings))
        prepare(backends[-1])
        return {result.subject: result for result in examine(backends[-1], probe=probe)}

    yield examined
    for backend in backends:
        backend.close()


def real(label_studio: RunningLabelStudio, **settings: object) -> dict[str, object]:
    return {
        "label_studio_url": label_studio.url,
        "label_studio_api_key": label_studio.api_key,
        "port": free_port(),
        **settings,
    }


def titles(label_studio: RunningLabelStudio) -> list[str]:
    return [project["title"] for project in label_studio.ask("/api/projects/?page_size=1000")["results"]]


@pytest.mark.label_studio
@pytest.mark.parametrize("kind", ["legacy", "personal access"])
def test_all_is_well_with_a_label_studio_that_reaches_us(
    look_at: Any, real_label_studio: RunningLabelStudio, kind: str
) -> None:
    key = real_label_studio.api_key if kind == "legacy" else real_label_studio.personal_access_token
    found = look_at(probe=True, **real(real_label_studio, label_studio_api_key=key))
    assert {result.state for result in found.values()} <= {OK, WARNING}
    assert found["token"].text.startswith(f"A {kind} token")
    assert found["callback"].text == "A webhook of Label Studio arrived here."
    assert TITLE not in titles(real_label_studio)


@pytest.mark.label_studio
def test_an_address_that_label_studio_cannot_reach_and_one_that_it_does_not_take(
    look_at: Any, real_label_studio: RunningLabelStudio
) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    found = look_at(probe=True, **real(real_label_studio, public_url=nowhere))
    assert (found["webhook"].state, found["callback"].state, found["ML backend"].state) == (
        OK,
        FAILED,
        FAILED,
    )
    found = look_at(probe=True, **real(real_label_studio, public_url="http://imil:9090"))
    assert (found["webhook"].state, found["the backend's URL"].state) == (FAILED, FAILED)
    assert "needs a dot" in found["webhook"].text
    assert TITLE not in titles(real_label_studio)


@pytest.mark.label_studio
def test_a_token_that_label_studio_does_not_know(look_at: Any, real_label_studio: RunningLabelStudio) -> None:
    found = look_at(probe=True, **real(real_label_studio, label_studio_api_key="0" * 40))
    assert found["Label Studio's URL"].state is OK
    assert found["token"].state is FAILED
    assert "Personal Access Token" in found["token"].text
    assert "webhook" not in found


@pytest.mark.label_studio
def test_legacy_tokens_that_are_switched_off(look_at: Any, real_label_studio: RunningLabelStudio) -> None:
    key = real_label_studio.personal_access_token
    person = join(real_label_studio)

    def allow(legacy: bool) -> None:
        settings = {"api_tokens_enabled": True, "legacy_api_tokens_enabled": legacy}
        person.request("POST", "/api/jwt/settings", json=settings).raise_for_status()

    allow(False)
    try:
        found = look_at(**real(real_label_studio))
        assert found["token"].state is FAILED
        assert "Organization > Access Token Settings" in found["token"].text
        assert look_at(**real(real_label_studio, label_studio_api_key=key))["token"].state is OK
    finally:
        allow(True)


@pytest.mark.label_studio
def test_a_personal_access_token_that_was_revoked(
    look_at: Any, real_label_studio: RunningLabelStudio
) -> None:
    person = join(real_label_studio)
    settings = real(real_label_studio, label_studio_api_key=person.personal_access_token)
    assert look_at(**settings)["token"].state is OK
    revoked = person.request("POST", "/api/token/blacklist/", json={"refresh": person.personal_access_token})
    revoked.raise_for_status()
    found = look_at(**settings)
    assert found["token"].state is FAILED
    assert "expired, revoked" in found["token"].text


@pytest.mark.label_studio
def test_images_of_a_data_set_that_can_be_fetched_no_longer(
    look_at: Any, real_label_studio: RunningLabelStudio
) -> None:
    client = real_label_studio.client
    project = client.create_project("doctor's films", load_label_config("blackout"), "")
    addresses = [
        client.upload_image(project, "a.png", png()),
        f"{real_label_studio.url}/data/local-files/?d=gone/a.png",
        "/tasks/999999/resolve/?fileuri=czM6Ly9maWxtcy9hLnBuZw==",
        "http://10.1.2.3/a.png",
    ]

    def imported(backend: Backend) -> None:
        dataset = make_dataset(backend)
        with backend.store.begin() as session:
            session.get_one(Dataset, dataset.id).source_instance = real_label_studio.url
            for sample, address in zip(session.scalars(select(Sample)), addresses, strict=False):
                sample.address = address

    found = look_at(prepare=imported, **real(real_label_studio))
    places = ("uploads", "local files", "cloud storage", "10.1.2.3")
    uploads, local_files, cloud, elsewhere = (found[f"images of films, {place}"] for place in places)
    assert (uploads.state, local_files.state, cloud.state, elsewhere.state) == (OK, FAILED, FAILED, FAILED)
    assert "a Local Files storage" in local_files.text
    assert "no longer has the cloud storage" in cloud.text
    assert "IMIL_IMAGE_HOSTS" in elsewhere.text


@pytest.mark.label_studio
def test_something_listens_at_our_port_already(look_at: Any, real_label_studio: RunningLabelStudio) -> None:
    with serve(lambda _: Answer(200, {"status": "UP", "model_version": "v1"})) as server:
        port = urlsplit(server.url).port
        found = look_at(probe=True, **real(real_label_studio, port=port))
    assert "Not tested" in found["callback"].text
    assert found["ML backend"].state is OK


# As a Label Studio of the defaults answers, which the tests' own is not.
PRIVATE = {"validation_errors": {"non_field_errors": ["URL resolves to a reserved network address"]}}
NO_LOCAL_FILES = b"You can enable it with LOCAL_FILES_SERVING_ENABLED environment variable, please check docs"


def test_what_a_label_studio_of_the_defaults_refuses(look_at: Any) -> None:
    def answer(request: Request) -> Answer:
        if (request.method, request.path) == ("POST", "/api/webhooks/"):
            return Answer(403, PRIVATE)
        if request.path.startswith("/data/"):
            return Answer(403, NO_LOCAL_FILES)
        if "file-uploads" in request.path:
            return Answer(200, [{"id": 1, "file": "upload/1/doctor.png"}])
        if request.method == "DELETE":
            return Answer(403, {"detail": "Only its owner may."})
        listed = request.method == "GET" and "webhooks" in request.path
        return Answer(200, [] if listed else {"release": "1.23.2", "id": 1, "file_upload_ids": [1]})

    with serve(answer) as label_studio:
        found = look_at(probe=True, label_studio_url=label_studio.url, port=free_port())
    assert (found["images"].state, "SERVING_ENABLED=true" in found["images"].text) == (FAILED, True)
    assert (found["webhook"].state, "SSRF_PROTECTION_ENABLED" in found["webhook"].text) == (FAILED, True)
    assert (found["project"].state, "Delete it there" in found["project"].text) == (WARNING, True)


def test_a_token_that_is_not_set(look_at: Any) -> None:
    found = look_at(label_studio_api_key=" ")
    assert "Personal Access Token" in found["Label Studio's URL"].text


def test_a_database_of_a_newer_version(look_at: Any) -> None:
    def newer(backend: Backend) -> None:
        with backend.store.begin() as session:
            session.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    found = look_at(prepare=newer, label_studio_url=f"http://127.0.0.1:{free_port()}")
    assert found["database"].state is FAILED
    assert "newer version" in found["database"].text


def test_the_status_and_json_are_for_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LABEL_STUDIO_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "token")
    result = CliRunner().invoke(app, ["doctor", "--json"])
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert [(each["subject"], each["state"]) for each in found[:2]] == [
        ("Label Studio's URL", "failed"),
        ("the backend's URL", "ok"),
    ]


def test_nobody_listens_at_the_address(look_at: Any) -> None:
    found = look_at(label_studio_url=f"http://127.0.0.1:{free_port()}", label_studio_timeout=2.0)
    assert found["Label Studio's URL"].state is FAILED
    assert "no connection" in found["Label Studio's URL"].text
    assert found["database"].state is OK


def test_something_else_than_label_studio_is_at_the_address(look_at: Any) -> None:
    with serve(lambda _: Answer(404, b"<html>nginx</html>")) as page:
        found = look_at(label_studio_url=page.url)
    assert "sub-path" in found["Label Studio's URL"].text


def test_a_clock_that_is_wrong_and_a_version_that_was_not_tried(
    look_at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    then = datetime(2022, 1, 1, tzinfo=timezone.utc)
    monkeypatch.setattr("imil_backend.loop.upkeep.doctor_label_studio.parsedate_to_datetime", lambda _: then)
    with serve(lambda _: Answer(200, {"release": "1.7.3", "id": 1})) as label_studio:
        found = look_at(label_studio_url=label_studio.url)
    assert found["Label Studio's version"].state is WARNING
    assert (found["clock"].state, "behind" in found["clock"].text) == (WARNING, True)


@pytest.mark.parametrize(
    ("release", "state"),
    [("1.17.0", WARNING), ("1.18.0", OK), ("1.20.0.post1", OK), ("1.23.2", OK), ("1.24.0", WARNING),
     ("2.0.0", WARNING), ("1.9.2", WARNING), ("", WARNING), ("develop", WARNING)],
)  # fmt: skip
def test_versions_outside_of_those_that_were_tried_are_warned_of(
    look_at: Any, release: str, state: State
) -> None:
    with serve(lambda _: Answer(200, {"release": release, "id": 1})) as label_studio:
        found = look_at(label_studio_url=label_studio.url)["Label Studio's version"]
    assert found.state is state
    assert ("supported are 1.18 to 1.23" in found.text) == (state is WARNING)


def test_a_label_studio_that_calls_itself_otherwise(look_at: Any) -> None:
    answer = {
        "release": "1.23.2",
        "id": 1,
        "templates": [{"image": "http://labels.example.org/static/a.png"}],
    }
    with serve(lambda _: Answer(200, answer)) as label_studio:
        found = look_at(label_studio_url=label_studio.url)["Label Studio's name"]
    assert found.state is OK
    assert "http://labels.example.org (its LABEL_STUDIO_HOST)" in found.text


def test_a_full_disk_a_missing_gpu_and_no_weights(look_at: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 10**6))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    settings = {"label_studio_url": f"http://127.0.0.1:{free_port()}", "device": "cuda"}
    found = look_at(**settings)
    assert (found["disk"].state, found["device"].state) == (FAILED, FAILED)
    assert found["weights"].state is WARNING


def test_a_webhook_is_listened_for_on_ipv6_too(tmp_path: Path) -> None:
    backend = make_backend(tmp_path, host="::1", port=free_port())
    with _listening(backend) as received:
        assert received is not None
        secret = {"X-IMIL-Secret": backend.webhook_secrets[0]}
        requests.post(f"{backend.settings.own_url}/webhook", json={}, headers=secret, timeout=10)
        assert received.is_set()
    backend.close()


def test_label_studio_in_a_container_cannot_reach_loopback(look_at: Any) -> None:
    found = look_at(label_studio_url="http://127.0.0.2:9", label_studio_timeout=2.0)
    assert found["the backend's URL"].state is WARNING
    assert "IMIL_PUBLIC_URL" in found["the backend's URL"].text
