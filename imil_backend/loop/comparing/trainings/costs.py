"""What a comparison will take, from two short trainings on this device."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

from imil_backend.learning.contract.launch import run_training
from imil_backend.learning.contract.training_job import TrainingJob, TrainingSample, write_training_job
from imil_backend.loop.comparing.protocol import Protocol

_IMAGES = (48, 144)  # trained on in the two
_FEWEST = 2  # of each class in each split
_EPOCHS = 2
_EVALUATING = 1 / 3  # of the time that training on an image takes


@dataclass(frozen=True)
class Cost:
    """Seconds that one training takes on the whole dataset.

    Attributes:
        start: whatever is trained on.
        once: for all images together, once: reading, features, mining, tests.
        epoch: each epoch, with its look at the validation split.
    """

    start: float
    once: float
    epoch: float

    def seconds(self, epochs: int) -> float:
        """Of a training of so many epochs."""
        return self.start + self.once + epochs * self.epoch


def measure_cost(job: TrainingJob, samples: list[TrainingSample], protocol: Protocol, folder: Path) -> Cost:
    """Train twice on few images, and reckon what all of them take.

    Args:
        job: of going on unchanged.
        samples: as they are split.
        protocol: with the number of threads.
        folder: to work in.
    """
    train = sum(each.split == "train" for each in samples)
    recipe = replace(job.recipe, epochs=_EPOCHS, mining_epoch=1)
    took, rate = [], 1.0
    shares = [min(images / train, share) for images, share in zip(_IMAGES, (0.4, 1.0), strict=True)]
    for number, share in enumerate(shares):
        directory = folder / f"measured-{number}"
        small = replace(job, recipe=recipe, cache_dir=str(directory / "cache"))
        write_training_job(directory, small, _part(samples, share))
        began = time.monotonic()
        result = run_training(directory, threads=protocol.threads)
        took.append(time.monotonic() - began)
        rate = max(epoch["images_per_second"] for epoch in result["epochs"])
    validation = sum(each.split == "validation" for each in samples)
    epoch = (train + _EVALUATING * validation) / rate
    whole = max(took[1] - took[0], 0.0) / (shares[1] - shares[0])  # of all images, in so many epochs
    return Cost(max(took[0] - shares[0] * whole, 0.0), max(whole - _EPOCHS * epoch, 0.0), epoch)


def _part(samples: list[TrainingSample], share: float) -> list[TrainingSample]:
    """So large a share of each class in each split."""
    places: dict[tuple[str, int], list[TrainingSample]] = defaultdict(list)
    for each in samples:
        places[each.split, each.label].append(each)
    return [each for found in places.values() for each in found[: max(_FEWEST, round(share * len(found)))]]
