"""The shortcut test of a trained network on test images, in a process of its own.

    python -m imil_backend.learning.inference.exchanged DIRECTORY TESTED

reads the model of a finished training job, and the test split of the job in TESTED and its other samples,
the donors, with masks; it writes EXCHANGED_FILE beside the model.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from imil_backend.files import replacing
from imil_backend.learning.contract.training_job import (
    EXCHANGED_FILE,
    MODEL_FILE,
    read_samples,
    read_training_job,
)
from imil_backend.learning.inference.prediction import predict_split
from imil_backend.learning.inference.shortcuts import count_draws, draw_exchanges
from imil_backend.learning.inputs.data import fill_cache, load_dataset
from imil_backend.learning.networks.network import before_classifier, load_model
from imil_backend.learning.networks.runtime import start_runtime


def write_exchanged(directory: Path, tested: Path) -> None:
    """Write EXCHANGED_FILE.

    It holds `keys` (samples,) of those that are tested, none where nothing can be exchanged; of the images
    whose irrelevant part is exchanged `labels` (images,) and `features` (images, channels), as the classifier
    gets them; its `weight` (classes, channels) and `bias` (classes,); `same_class` and `any_class` (draws,
    samples), the images, by their places, that each sample becomes with donors of its class and of any.

    Args:
        directory: of a training that is done.
        tested: of a job with its classes and image size, whose test split is asked; the others are donors.

    Raises:
        WeightsError: the model is missing or damaged.
        SettingsError: the device is not there.
    """
    job, samples = read_training_job(tested), read_samples(tested)
    made = fill_cache(job, samples, lambda _done, _total: None)  # blackouts too, once for all trainings
    everyone = [replace(each, split="test") for each in samples]  # in one set, to be exchanged
    split = load_dataset(job, everyone, made).originals["test"]
    asked = {each.key for each in samples if each.split == "test"}
    takers = np.array([key in asked for key in split.keys], bool)
    runtime = start_runtime(job.device, "float32", deterministic=True)
    network, config = load_model(directory / MODEL_FILE)
    trunk, head = before_classifier(network, config.backbone)
    exchanges = draw_exchanges(split, job.recipe.seed, count_draws(int(takers.sum())), takers)
    shown = (trunk, split, config, runtime, lambda _: None)
    features = predict_split(*shown, drawn=exchanges.images, outputs=head.in_features)
    with replacing(directory / EXCHANGED_FILE) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            keys=np.array(split.select(exchanges.tested).keys, np.str_),
            labels=split.labels[exchanges.images.indices],
            features=features,
            weight=head.weight.detach().numpy(),
            bias=head.bias.detach().numpy(),
            same_class=exchanges.same_class,
            any_class=exchanges.any_class,
        )


if __name__ == "__main__":
    write_exchanged(*map(Path, sys.argv[1:]))
