from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from loop_fakes import (
    RESULT,
    OpenRound,
    chosen,
    make_version,
    mask_of,
    region,
    training_samples,
    write_results,
)
from sqlalchemy import select, text

from imil_backend.errors import RoundError
from imil_backend.learning.contract.checks import check_recipe
from imil_backend.learning.contract.training_job import (
    INTERMEDIATE_FILE,
    MODEL_FILE,
    Recipe,
    TrainingJob,
    TrainingSample,
    read_samples,
    read_training_job,
)
from imil_backend.loop.answers.reconcile import reconcile
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.policy import change_policy, change_recipe
from imil_backend.loop.base.set_aside import set_aside
from imil_backend.loop.base.states import CLOSED
from imil_backend.loop.rounds.lifecycle import begin_baseline
from imil_backend.loop.versions.champions import champion_of
from imil_backend.loop.versions.training_jobs import (
    directory_of,
    fingerprint,
    prepare_training_job,
    record_version,
)
from imil_backend.store.tables import Dataset, Round, Sample, SetAside


@pytest.fixture(autouse=True)
def from_scratch(open_round: OpenRound) -> None:
    with open_round.backend.store.begin() as session:
        session.get_one(Dataset, open_round.dataset.id).recipe = {"pretrained": False}


def laid_down(backend: Backend, round_id: int) -> tuple[TrainingJob, dict[str, TrainingSample]]:
    with backend.store.begin() as session:
        round_ = session.get_one(Round, round_id)
        prepare_training_job(backend, session, round_, champion_of(session, round_.dataset_id))
    directory = backend.directory / "versions" / str(round_.version_name)
    return read_training_job(directory), {sample.key: sample for sample in read_samples(directory)}


def answer(open_round: OpenRound, *results: list[dict[str, Any]]) -> None:
    for task, result in zip(open_round.tasks, results, strict=False):
        open_round.label_studio.annotate(task, result)
    reconcile(open_round.backend, open_round.project)


def test_a_round_goes_on_from_its_baseline_with_the_answers(open_round: OpenRound) -> None:
    answer(open_round, region(mask_of(1)), chosen("label_wrong"), chosen("nothing_to_black_out"))
    job, samples = laid_down(open_round.backend, open_round.id)
    assert job.resume_from == str(Path(open_round.version.directory) / INTERMEDIATE_FILE)
    assert (job.parent, job.round_number) == ("baseline", 1)
    assert samples["key-train-0"].mask_sha256 is not None
    assert Path(str(samples["key-train-0"].mask)).is_file()
    assert "key-train-1" not in samples
    assert samples["key-train-2"].mask is None
    assert len(samples) == 13


def test_samples_that_came_after_the_baseline_wait_for_the_next_one(open_round: OpenRound) -> None:
    with open_round.backend.store.begin() as session:
        sample = session.scalars(select(Sample).where(Sample.name == "train-7")).one()
        values = {column.name: getattr(sample, column.name) for column in Sample.__table__.columns}
        session.add(Sample(**{**values, "id": None, "key": "new", "name": "new", "channels": 3}))
    job, samples = laid_down(open_round.backend, open_round.id)
    assert "new" not in samples
    assert job.channels == 1  # the baseline's
    with open_round.backend.store.begin() as session:
        session.get_one(Round, open_round.id).state = CLOSED
        round_ = begin_baseline(session, open_round.dataset)
    job, samples = laid_down(open_round.backend, round_.id)
    assert "new" in samples
    assert (job.resume_from, job.channels) == (None, 3)


def test_validation_test_and_leaking_samples_are_never_blacked_out_nor_trained_on(
    open_round: OpenRound,
) -> None:
    backend = open_round.backend
    with backend.store.begin() as session:
        for task, name in zip(open_round.tasks, ("validation-0", "test-0"), strict=False):
            sample = session.scalars(select(Sample).where(Sample.name == name)).one()
            other = session.scalars(select(Sample).where(Sample.key == f"key-train-{task - 101}")).one()
            sample.key, other.key = other.key, f"was-{other.key}"
            sample.split, other.split = sample.split, "train"
    answer(open_round, region(mask_of(1)), chosen("unreadable"))
    with backend.store.begin() as session:
        sample = session.scalars(select(Sample).where(Sample.name == "train-3")).one()
        sample.excluded = "group in test"
    _, samples = laid_down(backend, open_round.id)
    assert all(sample.mask is None for sample in samples.values() if sample.split != "train")
    assert "key-train-3" not in samples


def test_laying_a_job_down_again_writes_the_same(open_round: OpenRound) -> None:
    answer(open_round, region(mask_of(1)))
    assert laid_down(open_round.backend, open_round.id) == laid_down(open_round.backend, open_round.id)


def test_a_round_of_the_last_layers_takes_the_baselines_recipe_at_its_full_size(
    open_round: OpenRound,
) -> None:
    answer(open_round, region(mask_of(1)))
    whole, _ = laid_down(open_round.backend, open_round.id)
    with open_round.backend.store.begin() as session:
        dataset = session.get_one(Dataset, open_round.dataset.id)
        change_recipe(dataset, {"progressive": True})
        change_policy(dataset, {"trainable": "layer4"})
    quick, _ = laid_down(open_round.backend, open_round.id)
    assert quick.recipe == replace(whole.recipe, trainable="layer4")
    assert quick.name != whole.name
    check_recipe(quick.recipe)


def test_other_answers_make_it_another_training(open_round: OpenRound) -> None:
    answer(open_round, region(mask_of(1)))
    first, before = laid_down(open_round.backend, open_round.id)
    open_round.label_studio.update(1, result=region(mask_of(2)))
    reconcile(open_round.backend, open_round.project)
    second, after = laid_down(open_round.backend, open_round.id)
    assert first.name != second.name  # the checkpoint of the first knows another mask
    assert before["key-train-0"].mask_sha256 != after["key-train-0"].mask_sha256


def test_a_round_without_its_baseline_says_so(open_round: OpenRound) -> None:
    with open_round.backend.store.begin() as session:
        session.execute(text("DROP TRIGGER versions_no_update"))
        session.get_one(type(open_round.version), open_round.version.id).baseline_id = open_round.version.id
    with pytest.raises(RoundError, match="no baseline yet"):
        laid_down(open_round.backend, open_round.id)


def test_the_fingerprint_is_of_samples_masks_and_recipe_in_any_order(open_round: OpenRound) -> None:
    with open_round.backend.store.begin() as session:
        samples = training_samples(session, open_round.dataset)
    recipe = Recipe()
    plain = fingerprint(samples, recipe)
    assert fingerprint(samples[::-1], recipe) == plain
    masked = [replace(samples[0], mask="anywhere", mask_sha256="1"), *samples[1:]]
    others = {
        fingerprint(masked, recipe),
        fingerprint([replace(masked[0], fill="mean"), *samples[1:]], recipe),
        fingerprint(samples[1:], recipe),
        fingerprint(samples, replace(recipe, seed=1)),
    }
    assert len(others | {plain}) == 5
    assert fingerprint([replace(masked[0], mask="elsewhere"), *samples[1:]], recipe) in others


def test_a_version_is_recorded_once_with_what_it_was_trained_on(open_round: OpenRound) -> None:
    backend = open_round.backend
    answer(open_round, region(mask_of(1)), region(mask_of(2)))
    set_aside(backend, open_round.dataset.id, "training", "train-6", "damaged once")
    job, samples = laid_down(backend, open_round.id)
    write_results(directory_of(backend, job.name), list(samples.values()))
    result = {**RESULT, "set_aside": [{"key": "key-train-5", "reason": "It is damaged."}]}
    for _ in range(2):
        with backend.store.begin() as session:
            round_ = session.get_one(Round, open_round.id)
            version = record_version(
                backend, session, round_, champion_of(session, open_round.dataset.id), result
            )
    assert (version.name, version.blacked_out) == (job.name, 2)
    assert (version.parent_id, version.baseline_id) == (open_round.version.id, open_round.version.id)
    assert version.fingerprint == fingerprint(list(samples.values()), job.recipe)
    assert not (Path(version.directory) / MODEL_FILE).stat().st_mode & 0o222  # nobody writes to it any more
    with backend.store.begin() as session:
        noted = {row.reference: row.reason for row in session.scalars(select(SetAside))}
    assert noted == {"train-5": "It is damaged."}  # and no longer what the training before noted


def test_a_second_baseline_starts_anew_and_rounds_go_on_from_it(open_round: OpenRound) -> None:
    backend = open_round.backend
    with backend.store.begin() as session:
        session.get_one(Round, open_round.id).state = CLOSED
        round_ = begin_baseline(session, session.get_one(Dataset, open_round.dataset.id))
    assert laid_down(backend, round_.id)[0].resume_from is None
    newer = make_version(backend, open_round.dataset, "newer", wrong=["train-5"])
    job, _ = laid_down(backend, open_round.id)
    assert job.resume_from == str(Path(newer.directory) / INTERMEDIATE_FILE)
