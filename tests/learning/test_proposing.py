"""Masks that a training proposes from the painted ones: planted tags in tiny images."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from tiny_jobs import TAG, JobMaker, train

from imil_backend.errors import TrainingStoppedError
from imil_backend.images.masks.masks import dice
from imil_backend.learning.child import proposing_process, training_process
from imil_backend.learning.child.spreading import spread
from imil_backend.learning.contract.launch import run_proposing, run_training
from imil_backend.learning.contract.proposed import PROPOSED_FILE, read_proposed
from imil_backend.learning.contract.training_job import (
    CHECKPOINT_FILE,
    MASKS_FILE,
    MODEL_FILE,
    RESULT_FILE,
    TrainingSample,
    read_json,
)

pytestmark = [
    pytest.mark.training,
    pytest.mark.usefixtures("children_of_one_thread", "one_thread"),
]

RECIPE = {
    **{"backbone": "resnet18", "deterministic": True, "epochs": 2},
    **{"correction": "counterexample", "spread": True},
}


def test_masks_are_proposed_for_training_and_validation_and_trained_on(
    make_job: JobMaker, tagged: list[TrainingSample]
) -> None:
    whole, stopped, without = (
        make_job(name, given=tagged, recipe=recipe)
        for name, recipe in (("whole", RECIPE), ("stopped", RECIPE), ("without", {**RECIPE, "spread": False}))
    )
    train(whole)
    keys, proposed = read_proposed(whole / PROPOSED_FILE)
    assert (proposed.usable, proposed.reason.startswith("On 20 painted masks")) == (True, True)
    assert keys == tuple(sample.key for sample in tagged if sample.split != "test")
    masks = proposed.coverage(np.arange(len(keys)), 40) > 127
    lies_left = masks[:, :TAG, :20].sum(axis=(1, 2)) > masks[:, :TAG, 20:].sum(axis=(1, 2))
    assert (lies_left == (np.arange(len(keys)) % 3 > 0)).mean() > 0.9
    assert not (whole / MASKS_FILE).exists()

    for job in (stopped, without):  # what has been proposed is not proposed again
        shutil.copy(whole / PROPOSED_FILE, job)
    written = (stopped / PROPOSED_FILE).stat().st_mtime_ns
    with pytest.raises(TrainingStoppedError):
        run_training(stopped, should_stop=(stopped / CHECKPOINT_FILE).exists)
    train(stopped)
    train(without)
    assert (stopped / PROPOSED_FILE).stat().st_mtime_ns == written
    assert (stopped / MODEL_FILE).read_bytes() == (whole / MODEL_FILE).read_bytes()
    assert (without / MODEL_FILE).read_bytes() != (whole / MODEL_FILE).read_bytes()


def test_where_no_masks_are_spread_nobody_weighs_more(make_job: JobMaker) -> None:
    recipe = {"backbone": "resnet18", "epochs": 2, "correction": "counterexample", "confirmed_weight": 5}
    for spreads, weight in ((True, 1), (False, 5)):
        job = make_job(f"spread-{spreads}", recipe={**recipe, "spread": spreads})
        training_process.run_training_job(job)
        assert read_json(job / RESULT_FILE)["recipe"]["confirmed_weight"] == weight


def test_masks_are_proposed_while_a_round_is_open(
    make_job: JobMaker, tagged: list[TrainingSample], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spread, "_STEPS", 50)  # half of them, and in this process: a minute less
    monkeypatch.setattr(spread, "_MORE_STEPS", 20)
    missing = replace(tagged[1], image="gone.png")
    job = make_job("open", given=[missing, *tagged[2:]])
    proposing_process.propose(job)
    keys, proposed = read_proposed(job / PROPOSED_FILE)
    assert keys == tuple(sample.key for sample in tagged[2:])  # what cannot be read is left out
    assert proposed.usable
    masks = np.array([proposed.mask(place, 40, 40) for place in range(len(keys))])
    tag = np.zeros((2, 40, 40), bool)
    tag[0, :TAG, :TAG] = tag[1, :TAG, -TAG:] = True
    found = [max(dice(mask, each) for each in tag) for mask in masks]
    assert np.mean(found) > 0.8


def test_too_few_painted_masks_propose_nothing(make_job: JobMaker, tagged: list[TrainingSample]) -> None:
    _, proposed = read_proposed(run_proposing(make_job("few", given=tagged[:6])))
    assert not proposed.usable
    assert "paint images of at least 6 groups" in proposed.reason
