"""The report as one HTML file: all that the page shows, and nothing that has to be fetched."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from dashboard_scene import Scene, open_scene
from pages_seen import HOSTILE, Seen, name_it
from sqlalchemy import select
from typer.testing import CliRunner

from imil_backend.cli import app
from imil_backend.loop.evaluation.shared_round import round_of_link
from imil_backend.server.dashboard.report import round_report
from imil_backend.store.tables import Sample

pytestmark = pytest.mark.slow  # a database and plots


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with open_scene(tmp_path_factory.mktemp("data")) as scene:
        yield scene


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Scene]:
    """Likewise, to be changed."""
    with open_scene(tmp_path) as scene:
        yield scene


def test_all_pictures_are_inside_and_nothing_is_fetched(scene: Scene) -> None:
    seen = Seen(round_report(scene.backend, 1, 1))
    assert seen.tags.count("img") == 11
    assert not {"script", "link", "iframe", "a"} & set(seen.tags)
    kinds = [each.partition(";")[0] for each in seen.addresses]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "data:image/svg+xml": 3,
        "data:image/jpeg": 6,
        "data:image/png": 2,
    }
    for each in seen.addresses:
        assert base64.b64decode(each.partition("base64,")[2], validate=True)
    assert "Became right: 2 of 12 samples" in seen.text


def test_the_reason_stands_in_the_place_of_a_picture_that_cannot_be_made(own: Scene) -> None:
    with own.backend.store.begin() as session:
        found = select(Sample).where(Sample.key == "key-validation-0")
        Path(session.scalars(found).one().path).write_bytes(b"")
    (own.report / "before-and-after-validation.svg").unlink()
    seen = Seen(round_report(own.backend, 1, 1))
    inside = [base64.b64decode(each.partition("base64,")[2]) for each in seen.addresses]
    reasons = [each for each in inside if b"This picture cannot be made" in each]
    assert [(b"validation-0.png is empty" in each, b"No such file" in each) for each in reasons] == [
        (False, True),
        (True, False),  # before
        (True, False),  # after
    ]
    assert not [each for each in reasons if str(own.report).encode() in each]
    assert all(ElementTree.fromstring(each).tag.endswith("svg") for each in reasons)
    assert len([each for each in seen.addresses if each.startswith("data:image/jpeg")]) == 4
    assert "Became right: 2 of 12 samples" in seen.text


@pytest.mark.parametrize("name", HOSTILE[:4])
def test_names_stand_in_it_as_text(scene: Scene, name: str) -> None:
    name_it(scene.backend, name)
    seen = Seen(round_report(scene.backend, 1, 1))
    assert name in seen.text
    assert "script" not in seen.tags
    assert not [each for each in seen.attributes if each.startswith("on")]


def test_the_command_writes_it_beside_markdown_and_json(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMIL_DATA_DIR", str(scene.backend.directory))
    monkeypatch.setenv("LABEL_STUDIO_URL", scene.backend.settings.label_studio_url)
    done = CliRunner().invoke(app, ["report", "--round", "1"])
    assert done.exit_code == 0, done.output
    values = json.loads((scene.report / "report.json").read_text(encoding="utf-8"))
    assert values["changes"]["splits"]["validation"]["both_right"] == 8
    assert (scene.report / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert (scene.report / "report.md").exists()
    assert "link" not in done.output


def test_the_command_prints_the_link_where_others_reach_the_backend(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMIL_DATA_DIR", str(scene.backend.directory))
    monkeypatch.setenv("LABEL_STUDIO_URL", scene.backend.settings.label_studio_url)
    monkeypatch.setenv("IMIL_PUBLIC_URL", "https://imil.example.org")
    told = CliRunner().invoke(app, ["report"]).output.splitlines()[-1]
    assert "for 90 days: https://imil.example.org/dashboard/shared/round?link=" in told
    with scene.backend.store.begin() as session:
        assert round_of_link(scene.backend, session, told.partition("link=")[2]).number == 1
