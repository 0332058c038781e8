"""What `imil gc` removes, and what stays."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from loop_fakes import OpenRound, make_version, mask_of, on_both_databases, region
from sqlalchemy import select

from imil_backend.errors import StoreError
from imil_backend.files import unfinished
from imil_backend.learning.contract.proposed import (
    PROPOSED_FILE,
    Proposed,
    Quality,
    read_proposed,
    write_proposed,
)
from imil_backend.learning.contract.supervision import only_training_in
from imil_backend.learning.contract.training_job import (
    CHECKPOINT_FILE,
    INTERMEDIATE_FILE,
    JOB_FILE,
    LOCK_FILE,
    MODEL_FILE,
    read_samples,
    read_training_job,
    write_training_job,
)
from imil_backend.loop.answers.reconcile import reconcile
from imil_backend.loop.answers.sample_states import mask_path, save_mask
from imil_backend.loop.base import audit
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.states import CANCELLED, CLOSED, TRAINING
from imil_backend.loop.cleanup import removal
from imil_backend.loop.cleanup.removal import find_removable, remove_unneeded
from imil_backend.loop.proposals.reasons import PROPOSING
from imil_backend.loop.queues.engine import prepare
from imil_backend.loop.running import steps
from imil_backend.loop.upkeep.backup import making
from imil_backend.loop.versions.champions import champion_of, promote
from imil_backend.loop.versions.removed_weights import removed_weights
from imil_backend.store.tables import AuditEntry, Dataset, Round, Version

LONG_AGO = (0.0, 0.0)


def kinds(backend: Backend, keep: int = 0) -> set[tuple[str, str]]:
    """What would be removed."""
    return {(item.kind, item.name) for item in find_removable(backend, keep)}


def round_of(backend: Backend, version: Version, verdict: str, number: int) -> None:
    with backend.store.begin() as session:
        session.add(
            Round(
                dataset_id=version.dataset_id,
                number=number,
                state=CLOSED,
                mined_version_id=1,
                version_id=version.id,
                verdict={"verdict": verdict},
            )
        )


def age(directory: Path) -> None:
    for path in directory.iterdir():
        os.utime(path, LONG_AGO)


@pytest.fixture
def baseline(backend: Backend, dataset: Dataset) -> Version:
    version = make_version(backend, dataset)
    (Path(version.directory) / INTERMEDIATE_FILE).write_bytes(b"state")
    return version


@pytest.fixture
def rejected(backend: Backend, dataset: Dataset, baseline: Version) -> Version:
    version = make_version(backend, dataset, "rejected", baseline=baseline, champion=False)
    round_of(backend, version, "reject", 1)
    return version


@on_both_databases
def test_weights_that_nobody_needs_are_removed_and_everything_else_stays(
    backend: Backend, dataset: Dataset, rejected: Version
) -> None:
    make_version(backend, dataset, "champion", baseline=rejected)
    before = set(backend.directory.glob("versions/*/*"))
    assert [item.name for item in remove_unneeded(backend, keep=0)] == ["rejected"]
    weights = Path(rejected.directory) / MODEL_FILE
    assert before - set(backend.directory.glob("versions/*/*")) == {weights}
    with backend.store.begin() as session:
        assert set(removed_weights(session, dataset.id)) == {rejected.id}
        (entry,) = session.scalars(select(AuditEntry).where(AuditEntry.event == audit.WEIGHTS_REMOVED))
        assert (entry.version_id, entry.details["files"]) == (rejected.id, [MODEL_FILE])
    assert remove_unneeded(backend, keep=0) == []


def test_the_latest_versions_keep_their_weights(backend: Backend, rejected: Version) -> None:
    assert kinds(backend, keep=1) == set()


def test_an_undecided_candidate_keeps_its_weights_until_a_version_is_promoted(
    backend: Backend, dataset: Dataset, baseline: Version
) -> None:
    undecided = make_version(backend, dataset, "undecided", baseline=baseline, champion=False)
    round_of(backend, undecided, "undecided", 1)
    assert kinds(backend) == set()
    make_version(backend, dataset, "champion", baseline=baseline)
    assert kinds(backend) == {("weights", "undecided")}


def test_rounds_go_on_from_the_latest_baseline_alone(
    backend: Backend, dataset: Dataset, baseline: Version
) -> None:
    assert kinds(backend) == set()
    refused = make_version(backend, dataset, "refused", champion=False)
    (Path(refused.directory) / INTERMEDIATE_FILE).write_bytes(b"state")
    assert kinds(backend) == set()  # the champion comes from the first
    later = make_version(backend, dataset, "later")
    (Path(later.directory) / INTERMEDIATE_FILE).write_bytes(b"state")
    assert kinds(backend) == {
        ("intermediate state", "baseline"),
        ("intermediate state", "refused"),
        ("weights", "refused"),
    }
    remove_unneeded(backend, keep=0)
    assert (Path(later.directory) / INTERMEDIATE_FILE).exists()
    assert (Path(baseline.directory) / MODEL_FILE).exists()  # it was the champion


def test_proposed_masks_go_with_the_weights_and_what_was_said_of_them_stays(
    backend: Backend, rejected: Version
) -> None:
    path = Path(rejected.directory) / PROPOSED_FILE
    quality = Quality((0.9,), 0.9, 0.8, 1.0, 3, 3)
    masks = np.zeros((3, 1152), np.uint8)
    write_proposed(path, "abc", Proposed(True, "Good.", quality, 96, masks, np.ones(3, np.float32)))
    assert kinds(backend) == {("weights", "rejected"), ("proposed masks", "rejected")}
    remove_unneeded(backend, keep=0)
    keys, kept = read_proposed(path)
    assert (keys, len(kept.packed), kept.reason, kept.quality) == ((), 0, "Good.", quality)
    assert kinds(backend) == set()


def trained(open_round: OpenRound, state: str) -> Path:
    """The directory of a round's training that was interrupted long ago."""
    backend, name = open_round.backend, "films-round1"
    parent = open_round.version
    with backend.store.begin() as session:
        round_ = session.get_one(Round, open_round.id)
        round_.state, round_.version_name = state, name
    directory = backend.path("versions", name, "x").parent
    job = read_training_job(Path(parent.directory))
    job = replace(job, name=name, resume_from=str(Path(parent.directory) / INTERMEDIATE_FILE))
    job = replace(job, recipe=replace(job.recipe, image_size=64, trainable="layer4"))
    write_training_job(directory, job, read_samples(Path(parent.directory)))
    (directory / CHECKPOINT_FILE).write_bytes(b"state")
    age(directory)
    return directory


def test_a_round_under_way_keeps_its_training_and_what_that_began_at(open_round: OpenRound) -> None:
    trained(open_round, TRAINING)
    (Path(open_round.version.directory) / INTERMEDIATE_FILE).write_bytes(b"state")
    make_version(open_round.backend, open_round.dataset, "later")
    for name in ("64px_1ch", "before-layer4_64px_0123456789abcdef"):
        (open_round.backend.cache / name).mkdir()
    assert kinds(open_round.backend) == set()


def test_a_cancelled_training_is_removed_when_it_has_ended(open_round: OpenRound) -> None:
    directory = trained(open_round, CANCELLED)
    with only_training_in(directory / LOCK_FILE):
        age(directory)
        assert remove_unneeded(open_round.backend, keep=0) == []
    os.utime(directory / CHECKPOINT_FILE)
    assert kinds(open_round.backend) == set()  # not yet: it may be about to be used
    age(directory)
    assert kinds(open_round.backend) == {("training files", "films-round1")}
    remove_unneeded(open_round.backend, keep=0)
    assert not (directory / CHECKPOINT_FILE).exists()
    assert (directory / JOB_FILE).exists()


def test_caches_of_other_sizes_and_layers_are_removed(backend: Backend, baseline: Version) -> None:
    for name in ("224px_1ch", "64px_1ch", "before-layer4_224px_0123456789abcdef", "precision"):
        (backend.cache / name).mkdir()
        (backend.cache / name / "lock").touch()
    assert kinds(backend) == {("cache", "64px_1ch"), ("cache", "before-layer4_224px_0123456789abcdef")}
    with backend.store.begin() as session:
        session.get_one(Dataset, baseline.dataset_id).policy = {"trainable": "layer4"}
    remove_unneeded(backend, keep=0)
    left = {path.name for path in backend.cache.iterdir()}
    assert left == {"224px_1ch", "before-layer4_224px_0123456789abcdef", "precision"}


def test_masks_of_answers_stay_also_of_withdrawn_and_changed_ones(open_round: OpenRound) -> None:
    backend, label_studio = open_round.backend, open_round.label_studio
    numbers = [
        label_studio.annotate(task, region(mask_of(column))) for column, task in enumerate(open_round.tasks)
    ]
    reconcile(backend, open_round.project)
    label_studio.delete(numbers[0])
    label_studio.update(numbers[1], result=region(mask_of(5)))
    reconcile(backend, open_round.project)
    kept = set(backend.directory.glob("masks/*/*.png"))
    assert len(kept) == 5
    path = mask_path(backend, save_mask(backend, mask_of(7)))
    partial = unfinished(next(iter(kept)))
    partial.touch()
    for each in (*kept, path, partial):
        os.utime(each, LONG_AGO)
    assert [item.name for item in remove_unneeded(backend, keep=0)] == ["2 masks"]
    assert set(backend.directory.glob("masks/*/*")) == kept


def test_a_version_that_is_promoted_meanwhile_stays(
    backend: Backend, rejected: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = removal._note

    def note_and_promote(session, *more) -> None:  # type: ignore[no-untyped-def]
        note(session, *more)
        promote(session, session.get_one(Version, rejected.id), "person")

    monkeypatch.setattr(removal, "_note", note_and_promote)
    assert remove_unneeded(backend, keep=0) == []
    with backend.store.begin() as session:
        assert champion_of(session, rejected.dataset_id).id == rejected.id  # type: ignore[union-attr]
        assert removed_weights(session, rejected.dataset_id) == {}


def test_what_a_killed_process_left_of_its_proposals_is_removed_a_day_later(backend: Backend) -> None:
    path = backend.path(PROPOSING, "round-1", JOB_FILE)
    path.write_text("{}")
    assert kinds(backend) == set()
    age(path.parent)
    assert kinds(backend) == {("proposing", "round-1")}
    remove_unneeded(backend, keep=0)
    assert not path.parent.exists()


def test_nothing_is_removed_while_a_backup_is_written(
    backend: Backend, rejected: Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(backend)
    files = making._files

    def clean_up_first(directory: Path) -> Iterator[Path]:
        with pytest.raises(StoreError, match="a backup, is under way"):
            remove_unneeded(backend, keep=0)
        return files(directory)

    monkeypatch.setattr(making, "_files", clean_up_first)
    making.back_up(backend, tmp_path / "imil.tar")
    assert (Path(rejected.directory) / MODEL_FILE).exists()


@pytest.mark.parametrize("nightly", [False, True])
def test_the_worker_cleans_up_at_night_if_it_is_told_to(
    backend: Backend, rejected: Version, nightly: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = backend.settings.model_copy(update={"gc_nightly": nightly, "gc_keep": 0})
    monkeypatch.setattr(backend, "settings", settings)
    monkeypatch.setattr(steps, "remove_ended_workflows", lambda _: 2)
    monkeypatch.setattr(steps, "_process", {"backend": backend})
    assert steps.clean_up()["workflows"] == 2
    assert (Path(rejected.directory) / MODEL_FILE).exists() is not nightly
