"""Names of annotators: on the pages of `imil serve`, and neither in files nor behind a shared link."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from dashboard_scene import make_scene
from flask.testing import FlaskClient
from loop_fakes import FakeLabelStudio, make_backend
from server_fakes import FakeChampion
from typer.testing import CliRunner

from imil_backend.cli import app
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.dashboard.machine import checks
from imil_backend.loop.evaluation.shared_round import shared_link
from imil_backend.loop.queues.engine import prepare
from imil_backend.server.app import create_app
from imil_backend.server.dashboard.copy_writer import write_copy

pytestmark = pytest.mark.slow  # a database and plots
NAME, OUTSIDE = "zoe@example.org", "https://imil.example.org"


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    """With a round that Zoe has answered, and settings by which she has a name."""
    label_studio = FakeLabelStudio()
    monkeypatch.setattr(FakeLabelStudio, "people", lambda _: {9: NAME})
    monkeypatch.setattr(Backend, "label_studio", label_studio)
    monkeypatch.setattr(checks, "examine", lambda *_, **__: [])  # the doctor asks the network
    backend = make_backend(tmp_path / "data", dashboard_names=True, public_url=OUTSIDE)
    make_scene(backend, label_studio)
    prepare(backend)
    yield backend
    backend.close()


@pytest.fixture
def visitor(backend: Backend) -> FlaskClient:
    return create_app(backend.settings, champion=FakeChampion()).test_client()  # type: ignore[arg-type]


def test_pages_have_names_and_a_shared_round_has_none(backend: Backend, visitor: FlaskClient) -> None:
    for page in ("rounds/1", "annotators", "samples", "samples/key-train-0"):
        assert NAME in visitor.get(f"/dashboard/datasets/1/{page}").text, page
    link = shared_link(backend, 1)
    assert link is not None
    shared = visitor.get(link.removeprefix(OUTSIDE)).text
    assert "annotator A" in shared
    assert NAME not in shared


def test_no_file_has_names(backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMIL_DATA_DIR", str(backend.directory))
    monkeypatch.setenv("LABEL_STUDIO_URL", backend.settings.label_studio_url)
    monkeypatch.setenv("IMIL_DASHBOARD_NAMES", "true")
    done = CliRunner().invoke(app, ["report", "--round", "1"])
    assert done.exit_code == 0, done.output
    write_copy(backend, tmp_path / "copy")
    written = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    lettered = {path.name for path, content in written.items() if b"annotator A" in content}
    assert {"report.html", "report.json", "annotators.html", "1.html"} <= lettered
    assert [path for path, content in written.items() if NAME.encode() in content] == []
