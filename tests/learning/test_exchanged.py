"""The shortcut test of a trained network on test images, for comparisons."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_jobs import JobMaker

from imil_backend.learning.contract.training_job import (
    EXCHANGED_FILE,
    MODEL_FILE,
    TrainingSample,
    read_samples,
    read_training_job,
)
from imil_backend.learning.inference.exchanged import write_exchanged
from imil_backend.learning.inference.shortcuts import count_draws, draw_exchanges
from imil_backend.learning.inputs.augmentation import prepare
from imil_backend.learning.inputs.data import fill_cache, load_dataset
from imil_backend.learning.networks.network import ModelConfig, build_network, load_model, save_model

pytestmark = pytest.mark.slow


def painted(sample: TrainingSample, like: TrainingSample) -> TrainingSample:
    return replace(sample, mask=like.mask, mask_sha256=like.mask_sha256)


@pytest.fixture
def tested(tagged: list[TrainingSample], make_job: JobMaker) -> Path:
    """A job of the eight test images, of seven of which it is known what is irrelevant, and six donors."""
    donors = [replace(each, split="validation") for each in tagged if each.mask][:6]
    test = [each for each in tagged if each.split == "test"]
    known = [painted(each, donors[place % 6]) for place, each in enumerate(test[:7])]
    return make_job("tested", given=[*known, test[7], *donors])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "trained"
    directory.mkdir()
    torch.manual_seed(0)
    network = build_network(2, "v1.5", "resnet18")
    save_model(directory / MODEL_FILE, network, ModelConfig(("a", "b"), 32, 1, "v1.5", backbone="resnet18"))
    return directory


def test_features_and_classifier_answer_as_the_network_does(model: Path, tested: Path):
    write_exchanged(model, tested)
    with np.load(model / EXCHANGED_FILE) as file:
        arrays = dict(file)
    job, samples = read_training_job(tested), read_samples(tested)
    everyone = [replace(each, split="test") for each in samples]
    split = load_dataset(job, everyone, fill_cache(job, samples, lambda *_: None)).originals["test"]
    takers = np.arange(len(split)) < 8
    exchanges = draw_exchanges(split, job.recipe.seed, count_draws(8), takers)
    assert arrays["keys"].tolist() == list(split.keys[:7])
    assert (exchanges.images.views >= 8).all()
    assert arrays["same_class"].shape == arrays["any_class"].shape == (10, 7)
    network, config = load_model(model / MODEL_FILE)
    images = split.images(exchanges.images, torch.device("cpu"))
    with torch.inference_mode():
        expected = network.eval()(prepare(images, config)).numpy()
    logits = arrays["features"] @ arrays["weight"].T + arrays["bias"]
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)
    assert arrays["labels"].tolist() == split.labels[exchanges.images.indices].tolist()


def test_where_nothing_can_be_exchanged_no_sample_is_tested(
    model: Path, tagged: list[TrainingSample], make_job: JobMaker
):
    test = [each for each in tagged if each.split == "test"]
    donors = [replace(each, split="validation") for each in tagged if each.mask and each.label]
    known = [painted(each, donors[0]) for each in test]
    write_exchanged(model, make_job("one-class", given=[*known, *donors]))
    with np.load(model / EXCHANGED_FILE) as file:
        assert not file["keys"].size and not file["features"].size
