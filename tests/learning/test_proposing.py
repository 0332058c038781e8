"""Masks that a training proposes from the painted ones: planted tags in tiny images."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_jobs import JobMaker

from imil_backend.errors import TrainingStoppedError
from imil_backend.learning.contract.job import CHECKPOINT_FILE, MASKS_FILE, MODEL_FILE, TrainingSample
from imil_backend.learning.contract.launch import run_training
from imil_backend.learning.contract.proposed import PROPOSED_FILE, read_proposed

pytestmark = [pytest.mark.training, pytest.mark.usefixtures("children_of_one_thread")]

RECIPE = {"deterministic": True, "epochs": 2, "correction": "counterexample", "spread": True}
TAG = 8


@pytest.fixture
def tagged(samples: list[TrainingSample], tmp_path: Path) -> list[TrainingSample]:
    """Each with a planted bright tag in one of two corners; every other training image is painted."""
    found = []
    for number, sample in enumerate(samples):
        pixels = np.array(Image.open(sample.image))
        mask = np.zeros(pixels.shape, bool)
        left = 0 if number % 3 else pixels.shape[1] - TAG
        mask[:TAG, left : left + TAG] = True
        pixels[mask] = 255
        image, painted = tmp_path / f"tagged-{number}.png", tmp_path / f"mask-{number}.png"
        Image.fromarray(pixels).save(image)
        Image.fromarray(mask).save(painted)
        tagged = replace(sample, image=str(image), sha256=digest(image))
        if sample.split == "train" and number % 2:
            tagged = replace(tagged, mask=str(painted), mask_sha256=digest(painted), confirmed=True)
        found.append(tagged)
    return found


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_masks_are_proposed_for_training_and_validation_and_trained_on(
    make_job: JobMaker, tagged: list[TrainingSample]
) -> None:
    whole, stopped, without = (
        make_job(name, given=tagged, recipe=recipe)
        for name, recipe in (("whole", RECIPE), ("stopped", RECIPE), ("without", {**RECIPE, "spread": False}))
    )
    run_training(whole)
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
    run_training(stopped)
    run_training(without)
    assert (stopped / PROPOSED_FILE).stat().st_mtime_ns == written
    assert (stopped / MODEL_FILE).read_bytes() == (whole / MODEL_FILE).read_bytes()
    assert (without / MODEL_FILE).read_bytes() != (whole / MODEL_FILE).read_bytes()
