"""Versions whose weights were removed: whatever would need them says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from loop_fakes import PROJECT, make_project, make_version
from sqlalchemy.orm import Session
from support.label_configs import classification_config

from imil_backend.api.version import Version as PythonVersion
from imil_backend.cli.helpers.showing import show_versions
from imil_backend.errors import StoreError
from imil_backend.learning.contract.training_job import MODEL_FILE
from imil_backend.loop.base import audit
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.queues.engine import prepare
from imil_backend.loop.serving.predictions import PredictionService
from imil_backend.loop.upkeep.backup.making import back_up
from imil_backend.loop.versions.champions import champion_of, promote, roll_back
from imil_backend.loop.versions.verification import verify_versions
from imil_backend.loop.views.status import versions
from imil_backend.store.tables import Dataset, Version

CONFIG = classification_config(["lesion", "normal"])


@pytest.fixture
def without(backend: Backend, dataset: Dataset) -> Version:
    """A version without weights, of a dataset with a later champion."""
    version = make_version(backend, dataset, "A", champion=False)
    make_version(backend, dataset, "B")
    remove(backend, version)
    return version


def remove(backend: Backend, version: Version) -> None:
    with backend.store.begin() as session:
        audit.note(session, version.dataset_id, audit.WEIGHTS_REMOVED, version_id=version.id)
    (Path(version.directory) / MODEL_FILE).unlink()


@pytest.mark.parametrize(
    "use",
    [
        lambda version: version.predict([]),
        lambda version: version.network(),
        lambda version: version.export("out", "torchvision"),
    ],
)
def test_a_version_in_python_says_so(
    backend: Backend, without: Version, use: Callable[[PythonVersion], object]
) -> None:
    with pytest.raises(
        StoreError, match=r"weights of A were removed on 20.* \(`imil gc`\).*model.safetensors"
    ):
        use(PythonVersion(backend, without))


def test_it_is_not_promoted_until_its_weights_are_restored(backend: Backend, without: Version) -> None:
    with pytest.raises(StoreError, match="weights of A were removed"), backend.store.begin() as session:
        promote(session, without, "person")
    (Path(without.directory) / MODEL_FILE).write_bytes(b"from a backup")
    with backend.store.begin() as session:
        assert promote(session, without, "person")


def test_no_rollback_leads_to_it(backend: Backend, dataset: Dataset) -> None:
    first = make_version(backend, dataset, "A")
    second = make_version(backend, dataset, "B")
    remove(backend, first)
    with pytest.raises(StoreError, match="weights of A were removed"), backend.store.begin() as session:
        roll_back(session, dataset)
    with backend.store.begin() as session:
        assert champion_of(session, dataset.id).id == second.id  # type: ignore[union-attr]


def test_predictions_say_so(backend: Backend, dataset: Dataset) -> None:
    make_project(backend, dataset)
    remove(backend, make_version(backend, dataset))
    with pytest.raises(StoreError, match="weights of baseline were removed"):
        PredictionService(backend, patient=True).predict(PROJECT, [], CONFIG)


def test_it_is_listed_and_not_verified(
    session: Session, dataset: Dataset, without: Version, capsys: pytest.CaptureFixture[str]
) -> None:
    verify_versions(session, dataset)
    listed = versions(session, dataset)
    assert [bool(each["weights_removed_at"]) for each in listed] == [True, False]
    show_versions(listed, "Versions")
    assert capsys.readouterr().out.count("weights removed") == 1


def test_a_backup_counts_it(backend: Backend, without: Version, tmp_path: Path) -> None:
    prepare(backend)
    assert back_up(backend, tmp_path / "imil.tar").without_weights == 1
