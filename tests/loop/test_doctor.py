"""The doctor, by things that really go wrong."""

from __future__ import annotations

import shutil
from collections import namedtuple
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from loop_fakes import make_backend
from support.http_server import Answer, serve
from support.label_studio import RunningLabelStudio, free_port

from imil_backend.loop.backend import Backend
from imil_backend.loop.doctor import examine
from imil_backend.loop.doctor_probe import TITLE
from imil_backend.loop.findings import Finding, State

OK, WARNING, FAILED = State.OK, State.WARNING, State.FAILED


@pytest.fixture
def look_at(tmp_path: Path) -> Iterator[Any]:
    """Examine a backend with these settings; gives the findings by subject."""
    backends: list[Backend] = []

    def examined(*, probe: bool = False, **settings: object) -> dict[str, Finding]:
        backends.append(make_backend(tmp_path / str(len(backends)), **settings))
        return {finding.subject: finding for finding in examine(backends[-1], probe=probe)}

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
    assert {finding.state for finding in found.values()} <= {OK, WARNING}
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
    assert (found["webhook"].state, found["the backend's address"].state) == (FAILED, FAILED)
    assert "needs a dot" in found["webhook"].text
    assert TITLE not in titles(real_label_studio)


@pytest.mark.label_studio
def test_a_token_that_label_studio_does_not_know(look_at: Any, real_label_studio: RunningLabelStudio) -> None:
    found = look_at(probe=True, **real(real_label_studio, label_studio_api_key="0" * 40))
    assert found["Label Studio's address"].state is OK
    assert found["token"].state is FAILED
    assert "Personal Access Token" in found["token"].text
    assert "webhook" not in found


def test_nobody_listens_at_the_address(look_at: Any) -> None:
    found = look_at(label_studio_url=f"http://127.0.0.1:{free_port()}", label_studio_timeout=2.0)
    assert found["Label Studio's address"].state is FAILED
    assert "no connection" in found["Label Studio's address"].text
    assert found["database"].state is OK


def test_something_else_than_label_studio_is_at_the_address(look_at: Any) -> None:
    with serve(lambda _: Answer(404, b"<html>nginx</html>")) as page:
        found = look_at(label_studio_url=page.url)
    assert "sub-path" in found["Label Studio's address"].text


def test_a_clock_that_is_wrong_and_a_version_that_was_not_tried(
    look_at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    then = datetime(2022, 1, 1, tzinfo=timezone.utc)
    monkeypatch.setattr("imil_backend.loop.doctor_label_studio.parsedate_to_datetime", lambda _: then)
    with serve(lambda _: Answer(200, {"release": "1.7.3", "id": 1})) as label_studio:
        found = look_at(label_studio_url=label_studio.url)
    assert found["Label Studio's version"].state is WARNING
    assert (found["clock"].state, "behind" in found["clock"].text) == (WARNING, True)


def test_a_full_disk_a_missing_gpu_and_no_weights(look_at: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 10**6))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    settings = {"label_studio_url": f"http://127.0.0.1:{free_port()}", "device": "cuda"}
    found = look_at(**settings)
    assert (found["disk"].state, found["device"].state) == (FAILED, FAILED)
    assert found["weights"].state is WARNING


def test_label_studio_in_a_container_cannot_reach_loopback(look_at: Any) -> None:
    found = look_at(label_studio_url="http://127.0.0.2:9", label_studio_timeout=2.0)
    assert found["the backend's address"].state is WARNING
    assert "IMIL_PUBLIC_URL" in found["the backend's address"].text
