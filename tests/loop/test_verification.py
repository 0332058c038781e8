from __future__ import annotations

from pathlib import Path

import pytest
from loop_fakes import RESULT, OpenRound, write_results

import imil_backend
from imil_backend.errors import StoreError, WeightsError
from imil_backend.learning.contract.training_job import MODEL_FILE, read_samples
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.versions.champions import champion_of
from imil_backend.loop.versions.starting_weights import required_weights, select_weights
from imil_backend.loop.versions.training_jobs import (
    code_version,
    directory_of,
    prepare_training_job,
    record_version,
)
from imil_backend.loop.versions.verification import verify_versions
from imil_backend.store.tables import Dataset, Round, Version


@pytest.fixture
def version(open_round: OpenRound) -> Version:
    """What came of a round's training."""
    backend = open_round.backend
    with backend.store.begin() as session:
        session.get_one(Dataset, open_round.dataset.id).recipe = {"pretrained": False}
        round_ = session.get_one(Round, open_round.id)
        champion = champion_of(session, open_round.dataset.id)
        prepare_training_job(backend, session, round_, champion)
        directory = directory_of(backend, str(round_.version_name))
        write_results(directory, read_samples(directory))
        return record_version(backend, session, round_, champion, RESULT)


def verify(open_round: OpenRound) -> None:
    with open_round.backend.store.begin() as session:
        verify_versions(session, session.get_one(Dataset, open_round.dataset.id))


def test_a_version_knows_its_weights_and_the_code_it_was_trained_by(
    open_round: OpenRound, version: Version
) -> None:
    verify(open_round)
    assert version.model_sha256
    assert version.code_version == code_version()
    assert code_version().startswith(imil_backend.__version__)


@pytest.mark.parametrize("content", [b"others", None])
def test_weights_that_were_changed_or_lost_are_named(
    open_round: OpenRound, version: Version, content: bytes | None
) -> None:
    weights = Path(version.directory) / MODEL_FILE
    if content is None:
        weights.unlink()
    else:
        weights.write_bytes(content)
    with pytest.raises(StoreError, match=version.name):
        verify(open_round)


def test_each_backbone_has_its_own_selected_weights(backend: Backend, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "resnet50.safetensors", tmp_path / "resnet18.safetensors"
    for path in (ours, theirs):
        path.touch()
    select_weights(backend, ours)
    with pytest.raises(WeightsError, match="imil weights --backbone resnet18"):
        required_weights(backend, "resnet18")
    select_weights(backend, theirs, "resnet18")
    assert (required_weights(backend), required_weights(backend, "resnet18")) == (ours, theirs)
