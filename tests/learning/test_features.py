from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_jobs import JobMaker

from imil_backend.learning.child.context import Context
from imil_backend.learning.child.reporting import Reporter
from imil_backend.learning.child.state.learner import new_learner
from imil_backend.learning.child.steps.features import with_features
from imil_backend.learning.contract.training_job import read_samples, read_training_job
from imil_backend.learning.inputs.data import LoadedSplits, fill_cache, load_dataset
from imil_backend.learning.networks.network import ModelConfig, build_network
from imil_backend.learning.networks.runtime import Runtime


@pytest.fixture
def make_features(make_job: JobMaker, tmp_path: Path) -> Callable[..., list[str]]:
    """Computes features before the classifier by random weights; the directories that there are then."""
    directory = make_job(recipe={"trainable": "classifier"})
    job, samples = read_training_job(directory), read_samples(directory)
    dataset = load_dataset(job, samples, fill_cache(job, samples, lambda *_: None))
    runtime = Runtime(torch.device("cpu"), "float32")

    def make(seed: int, chosen: slice) -> list[str]:
        parts = {name: split.select(np.arange(len(split))[chosen]) for name, split in dataset.splits.items()}
        reporter = Reporter(directory, 1, enabled=False)
        context = Context(directory, job, LoadedSplits(parts, ()), runtime, reporter, 8)
        torch.manual_seed(seed)
        config = ModelConfig(job.classes, 32, 1, "v1.5")
        learner = new_learner(build_network(2, "v1.5"), config, job.recipe, runtime, 2)
        featured = with_features(context, learner)
        assert featured.split("train").images(slice(0, 2), runtime.device).shape == (2, 1, 1, 2048)
        return sorted(path.name for path in (tmp_path / "cache").glob("before-*"))

    return make


@pytest.mark.slow
def test_features_that_other_weights_made_of_the_same_samples_are_removed(make_features):
    first, others = slice(0, 4), slice(4, 8)
    (old,) = make_features(seed=0, chosen=first)
    assert make_features(seed=0, chosen=first) == [old]
    (new,) = make_features(seed=1, chosen=first)
    assert new != old
    assert new in make_features(seed=2, chosen=others)  # another dataset's
    assert len(make_features(seed=2, chosen=others)) == 2
