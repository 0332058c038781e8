"""The shortcut test: on phantoms of 8 x 8 pixels with a marker planted in a corner that tells the class."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_jobs import JobMaker
from torch import nn

from imil_backend.learning.child import training_process
from imil_backend.learning.child.ending import results
from imil_backend.learning.contract.training_job import MODEL_FILE, RESULT_FILE, SHORTCUT_FILE, read_json
from imil_backend.learning.inference.prediction import predict_split
from imil_backend.learning.inference.shortcuts import (
    Exchanges,
    count_draws,
    draw_exchanges,
    draw_once,
)
from imil_backend.learning.inputs.data import SampleSet
from imil_backend.learning.inputs.exchange import Masks
from imil_backend.learning.networks.network import ModelConfig
from imil_backend.learning.networks.runtime import Runtime
from imil_backend.learning.scoring.robustness import robustness_of, shares_right

RUNTIME = Runtime(torch.device("cpu"), "float32")
CONFIG = ModelConfig(("normal", "lesion"), 8, 1, "v1.5")
PER_CLASS = 20


def planted() -> SampleSet:
    """A lesion is a bright centre; the marker is left of a normal image and right of one with a lesion."""
    labels = np.repeat([0, 1], PER_CLASS)
    pixels = np.zeros((len(labels), 8, 8, 1), np.uint8)
    pixels[labels == 1, 4:6, 4:6] = 200
    coverage = np.zeros((len(labels), 8, 8), np.uint8)
    for image, mask, label in zip(pixels, coverage, labels, strict=True):
        corner = slice(6, 8) if label else slice(0, 2)
        image[:2, corner], mask[:2, corner] = 255, 255
    names = tuple(f"s{number}" for number in range(len(labels)))
    everyone = np.arange(len(labels))
    return SampleSet(
        pixels, everyone, labels, names, names, masks=Masks(coverage, everyone, np.zeros(len(labels), bool))
    )


class Reader(nn.Module):
    """Tells the class by the marker, or by the finding."""

    def __init__(self, *, by_marker: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self._by_marker = by_marker

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (n, 2)."""
        grey = images[:, 0]
        for_normal = grey[:, :2, :2].mean((1, 2)) if self._by_marker else torch.zeros(len(grey))
        for_lesion = grey[:, :2, 6:].mean((1, 2)) if self._by_marker else grey[:, 4:6, 4:6].mean((1, 2))
        return torch.stack([for_normal, for_lesion], dim=1) * self.weight


def ask(samples: SampleSet, exchanges: Exchanges, *, by_marker: bool) -> tuple[np.ndarray, np.ndarray]:
    done: list[int] = []
    network = Reader(by_marker=by_marker)
    logits = predict_split(network, samples, CONFIG, RUNTIME, done.append, 64, exchanges.images)
    assert sum(done) == len(exchanges.images.indices)
    right = logits.argmax(axis=1) == samples.labels[exchanges.images.indices]
    return shares_right(right, exchanges.same_class, exchanges.any_class)


@pytest.mark.slow
def test_a_network_that_goes_by_the_marker_is_found_out_and_one_that_sees_the_finding_is_not() -> None:
    samples = planted()
    exchanges = draw_exchanges(samples, seed=0, draws=50)
    same, other = ask(samples, exchanges, by_marker=True)
    donors = samples.labels[exchanges.images.views[exchanges.any_class]]
    assert (same == 1).all()
    assert other.tolist() == (donors == samples.labels).mean(axis=0).tolist()  # as the donor's marker says
    leaning = robustness_of(same, other, samples.groups)
    assert 0.4 < leaning.drop.lower < leaning.drop.value < leaning.drop.upper < 0.65
    assert leaning.robust_accuracy.value == pytest.approx(1 - leaning.drop.value)

    seeing = robustness_of(*ask(samples, exchanges, by_marker=False), samples.groups)
    assert (seeing.robust_accuracy.value, seeing.drop.value) == (1.0, 0.0)
    # 40 groups that are all right cannot exclude that one in 14 is not: Clopper and Pearson.
    assert seeing.robust_accuracy.lower == pytest.approx(0.05 ** (1 / 40), abs=0.01)


def test_each_image_is_asked_once_and_the_same_draws_come_again() -> None:
    samples = planted()
    exchanges, again = (draw_exchanges(samples, seed=3, draws=10) for _ in range(2))
    takers, donors = exchanges.images.indices, exchanges.images.views
    pairs = list(zip(takers.tolist(), donors.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs) < 20 * len(samples)
    assert exchanges.any_class.shape == exchanges.same_class.shape == (10, len(samples))
    for name in ("same_class", "any_class"):
        assert (getattr(exchanges, name) == getattr(again, name)).all()
    assert (takers == again.images.indices).all()
    assert (donors == again.images.views).all()
    assert (takers[exchanges.any_class] == np.arange(len(samples))).all()
    assert (takers != donors).all()
    assert (samples.labels[donors[exchanges.same_class]] == samples.labels).all()


def test_what_is_not_known_is_left_out_and_one_class_alone_is_not_tested() -> None:
    samples = planted()
    assert samples.masks is not None
    rows = samples.masks.rows.copy()
    rows[3:PER_CLASS] = -1
    some = replace(samples, masks=replace(samples.masks, rows=rows))
    exchanges = draw_exchanges(some, seed=0, draws=10)
    assert exchanges.tested.tolist() == [0, 1, 2, *range(PER_CLASS, 2 * PER_CLASS)]
    assert np.isin(exchanges.images.views, exchanges.tested).all()
    rows = np.where(np.isin(np.arange(len(rows)), (1, 2)), -1, rows)  # of the first class one alone is known
    few = replace(samples, masks=replace(samples.masks, rows=rows))
    assert len(draw_once(few, seed=0).indices) == 0
    assert len(draw_exchanges(replace(samples, masks=None), seed=0, draws=1).tested) == 0


def test_others_may_be_the_donors_of_those_that_are_tested() -> None:
    samples = planted()
    takers = np.isin(np.arange(len(samples)), (0, PER_CLASS))  # one of each class
    exchanges = draw_exchanges(samples, seed=0, draws=10, takers=takers)
    donors = exchanges.images.views
    assert exchanges.tested.tolist() == exchanges.images.indices[exchanges.any_class[0]].tolist()
    assert exchanges.tested.tolist() == [0, PER_CLASS] and not takers[donors].any()
    assert set(samples.labels[donors[exchanges.any_class]].ravel().tolist()) == {0, 1}
    assert (samples.labels[donors[exchanges.same_class]] == samples.labels[exchanges.tested]).all()
    only = takers | (np.arange(len(samples)) >= PER_CLASS)  # all donors are of the first class
    assert len(draw_exchanges(samples, seed=0, draws=10, takers=only).tested) == 0


def test_large_splits_are_drawn_less_often() -> None:
    assert [count_draws(samples) for samples in (0, 20, 50, 150, 333, 100_000)] == [10, 10, 10, 3, 1, 1]


def test_a_single_draw_shows_each_sample_once_with_a_donor_of_either_class() -> None:
    samples = planted()
    drawn = draw_once(samples, seed=1)
    assert drawn.indices.tolist() == list(range(len(samples)))
    shares = samples.labels[drawn.views] == samples.labels
    assert 0.3 < shares.mean() < 0.7
    few = draw_once(samples, seed=1, most=7)
    assert len(few.indices) == 7
    assert (drawn.views[few.indices] == few.views).all()
    # Where features are cached, the drawn view is a row of its own.
    cached = replace(samples, masks=None, views=np.where(np.arange(len(samples)) < 5, -1, drawn.views)[None])
    again = draw_once(cached, seed=1)
    assert again.indices.tolist() == list(range(5, len(samples)))
    assert not again.views.any()


# --- at the end of a training


@pytest.fixture
def masked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The irrelevant part of all validation samples of a training but one is known: their upper left."""
    load = training_process.load_dataset

    def load_masked(*arguments):
        dataset = load(*arguments)
        validation = dataset.originals["validation"]
        coverage = np.zeros((1, 32, 32), np.uint8)
        coverage[0, :16, :16] = 255
        rows = np.zeros(len(validation), np.int64)
        rows[0] = -1
        masks = Masks(coverage, rows, np.zeros(len(rows), bool))
        originals = {**dataset.originals, "validation": replace(validation, masks=masks)}
        return replace(dataset, originals=originals)

    monkeypatch.setattr(training_process, "load_dataset", load_masked)


@pytest.mark.training
@pytest.mark.usefixtures("one_thread", "masked")
@pytest.mark.parametrize("trainable", ["all", "layer4"])
def test_a_training_tests_its_version_and_its_parent_alike_and_an_interrupted_end_goes_on(
    make_job: JobMaker, monkeypatch: pytest.MonkeyPatch, trainable: str
) -> None:
    recipe = {"epochs": 2, "trainable": trainable}
    parent = make_job("parent", recipe=recipe)
    training_process.run_training_job(parent)
    assert read_json(parent / SHORTCUT_FILE)["parent"] is None
    job: Path = make_job("child", recipe=recipe, parent="parent", parent_model=str(parent / MODEL_FILE))
    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(results, "save_model", lambda *_: (_ for _ in ()).throw(InterruptedError))
        training_process.run_training_job(job)
    first = read_json(job / SHORTCUT_FILE)
    # Trained alike, they are the same network: one as it was trained, the other from its file.
    assert first["candidate"] | {"name": "parent"} == first["parent"]
    assert (first["untested"], first["parent_untested"], first["left_out"], first["draws"]) == (
        None, None, 1, 10,
    )  # fmt: skip
    assert len(first["keys"]) == len(first["groups"]) == len(first["candidate"]["any_class"]) == 11

    with monkeypatch.context() as patch:
        patch.setattr(nn.Module, "__call__", None)
        if trainable == "all":  # else its features' shape is asked for again
            training_process.run_training_job(job)
    training_process.run_training_job(job)
    assert read_json(job / SHORTCUT_FILE) | {"seconds": 0} == first | {"seconds": 0}
    result = read_json(job / RESULT_FILE)
    assert result["metrics"]["shortcut"] == first["candidate"]["summary"]
    assert not list(job.glob("kept-*"))


@pytest.mark.training
@pytest.mark.usefixtures("one_thread", "masked")
def test_a_parent_that_cannot_be_asked_is_said_and_loses_no_training(make_job: JobMaker) -> None:
    job: Path = make_job(recipe={"epochs": 2}, parent="gone", parent_model="gone/model.safetensors")
    training_process.run_training_job(job)
    tested = read_json(job / SHORTCUT_FILE)
    assert tested["parent"] is None
    assert "gone/model.json is missing" in tested["parent_untested"]
    assert 0 <= tested["candidate"]["summary"]["robust_accuracy"]["value"] <= 1


@pytest.mark.training
@pytest.mark.usefixtures("one_thread")
def test_without_masks_there_is_no_test(make_job: JobMaker) -> None:
    job: Path = make_job(recipe={"epochs": 2})
    training_process.run_training_job(job)
    assert not (job / SHORTCUT_FILE).exists()
    assert "shortcut" not in read_json(job / RESULT_FILE)["metrics"]
