from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from loop_fakes import (
    URL,
    FakeLabelStudio,
    FakeQueues,
    OpenRound,
    make_backend,
    make_dataset,
    make_project,
    make_round,
    make_version,
)
from sqlalchemy.orm import Session
from typer.testing import CliRunner, Result

from imil_backend.cli import app
from imil_backend.loop.base.backend import Backend
from imil_backend.store.tables import Dataset


@pytest.fixture
def label_studio() -> FakeLabelStudio:
    return FakeLabelStudio()


@pytest.fixture
def backend(
    tmp_path: Path, label_studio: FakeLabelStudio, request: pytest.FixtureRequest
) -> Iterator[Backend]:
    """On an empty store, with a Label Studio in memory; on PostgreSQL for tests `on_both_databases`."""
    on_postgresql = getattr(request, "param", "sqlite") == "postgresql"
    database_url = request.getfixturevalue("postgres_url") if on_postgresql else None
    backend = make_backend(tmp_path / "data", database_url=database_url)
    backend.__dict__["label_studio"] = label_studio
    yield backend
    backend.close()


@pytest.fixture
def session(backend: Backend) -> Iterator[Session]:
    with backend.store.begin() as session:
        yield session


@pytest.fixture
def queues() -> FakeQueues:
    return FakeQueues()


@pytest.fixture
def dataset(backend: Backend) -> Dataset:
    return make_dataset(backend)


@pytest.fixture
def open_round(backend: Backend, label_studio: FakeLabelStudio, dataset: Dataset) -> OpenRound:
    names = [f"train-{number}" for number in range(4)]
    version = make_version(backend, dataset, wrong=names)
    project = make_project(backend, dataset)
    round_ = make_round(backend, label_studio, project, version, names)
    return OpenRound(backend, label_studio, dataset, version, project, round_.id)


@pytest.fixture
def imil(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`imil` on this backend's data directory."""
    monkeypatch.chdir(backend.directory)
    monkeypatch.setenv("IMIL_DATA_DIR", str(backend.directory))
    monkeypatch.setenv("LABEL_STUDIO_URL", URL)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "token")
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: CliRunner().invoke(app, arguments)
