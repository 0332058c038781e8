"""Who is asked about which images, and what training is given of the answers, in each arm."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imil_backend.errors import DatasetError, MaskError
from imil_backend.files import write_atomically
from imil_backend.images.masks.masks import mask_to_png
from imil_backend.learning.contract.training_job import TrainingSample
from imil_backend.learning.scoring.ranking import budget_of, rank_mispredictions
from imil_backend.loop.answers.sample_states import load_mask
from imil_backend.loop.asking.known_masks import irrelevant_region
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.comparing.arms import Arm
from imil_backend.loop.comparing.trainings.samples import Compared, Painted

MOST_TESTED = 1000  # test images, and donors; more would take longer than they tell
_RANDOM, _SHUFFLED, _TESTED = range(3)  # streams of random numbers

logger = logging.getLogger(__name__)


def asked_keys(
    compared: Compared,
    samples: Sequence[TrainingSample],
    records: Sequence[Mapping[str, Any]],
    budget: float,
    ask: str,
) -> list[str]:
    """The training images that clinicians are asked about.

    Args:
        compared: the dataset. Where it goes by clinicians' answers, these are asked, whatever the budget.
        samples: as they are split.
        records: of the intermediate model, as of `mining.json`.
        budget: share of the training split.
        ask: a name in ASKED. Where fewer are asked, the least certain others fill the budget.
    """
    if compared.annotations == "answers":
        return [each.key for each in samples if each.split == "train" and each.key in compared.answered]
    count = budget_of(len(records), budget)
    ranked = rank_mispredictions(records, budget=count, ask=ask, fill_with_uncertain=True)
    return [record["key"] for record in ranked]


def chosen_keys(
    arm: Arm, compared: Compared, samples: Sequence[TrainingSample], asked: Sequence[str], seed: int
) -> list[str]:
    """The training images that an arm is told of, as of `Arm.chosen`."""
    if arm.chosen == "nobody":
        return []
    if arm.chosen == "mispredicted":
        return list(asked)
    known = [each for each in samples if each.split == "train" and each.key in compared.painted]
    if arm.chosen == "all":
        return [each.key for each in known]
    label = {each.key: each.label for each in samples}
    wanted = Counter(label[key] for key in asked)
    random = np.random.default_rng([seed, _RANDOM])
    chosen: list[str] = []
    for number, count in sorted(wanted.items()):
        of_class = [each.key for each in known if each.label == number]
        chosen += [of_class[place] for place in random.permutation(len(of_class))[:count]]
    return chosen


def annotated(
    backend: Backend,
    compared: Compared,
    samples: Sequence[TrainingSample],
    arm: Arm,
    keys: Sequence[str],
    directory: Path,
    seed: int,
) -> list[TrainingSample]:
    """The samples as an arm's training sees them.

    Args:
        backend: with clinicians' masks.
        compared: the dataset.
        samples: as they are split.
        arm: which.
        keys: of the images that it is told of.
        directory: where masks are written.
        seed: by which they are shuffled, if they are.
    """
    painted = {key: compared.painted[key] for key in keys if key in compared.painted}
    givers = _givers(arm, painted, seed)
    told = set(keys)
    return [
        _with_mask(
            backend, replace(each, confirmed=each.key in told), painted, givers.get(each.key), directory
        )
        for each in samples
    ]


def tested_samples(
    backend: Backend, compared: Compared, samples: Sequence[TrainingSample], directory: Path
) -> list[TrainingSample]:
    """Test images for the shortcut test, and validation images as their donors, with masks.

    In validation a marker agrees with the label as often as in training; in the test split it may tell
    nothing, so that test images as donors would show no drop. At most 1,000 of either, drawn by chance. An
    image whose mask cannot be read is left out; the log says so.

    Args:
        backend: with the settings.
        compared: the dataset.
        samples: as they are split.
        directory: where masks are written.
    """
    found = []
    for split in ("test", "validation"):
        known = [each for each in samples if each.split == split and each.key in compared.masks]
        drawn = np.sort(np.random.default_rng(_TESTED).permutation(len(known))[:MOST_TESTED])
        for sample in (known[place] for place in drawn):
            try:
                found.append(
                    _with_mask(backend, sample, compared.masks, compared.masks[sample.key], directory)
                )
            except (DatasetError, MaskError) as error:
                logger.warning("Image %s takes no part in the shortcut test: %s", sample.key, error)
    return found


def _givers(arm: Arm, painted: Mapping[str, Painted], seed: int) -> dict[str, Painted]:
    """Whose mask each image has; none has its own where they are shuffled."""
    if arm.masks == "none":
        return {}
    if arm.masks == "own":
        return dict(painted)
    keys = sorted(painted)
    order = np.random.default_rng([seed, _SHUFFLED]).permutation(len(keys))
    return {keys[place]: painted[keys[order[number - 1]]] for number, place in enumerate(order)}


def _with_mask(
    backend: Backend,
    sample: TrainingSample,
    painted: Mapping[str, Painted],
    giver: Painted | None,
    directory: Path,
) -> TrainingSample:
    if giver is None:
        return sample
    own = painted[sample.key].sample
    data = mask_to_png(_fitted(_region(backend, giver), own.width, own.height))
    sha256 = hashlib.sha256(data).hexdigest()
    path = directory / f"{sha256}.png"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)
    return replace(sample, mask=str(path), mask_sha256=sha256, outside=giver.outside)


def _region(backend: Backend, painted: Painted) -> NDArray[np.bool_]:
    """What is irrelevant, (height, width)."""
    if painted.mask is None:
        return irrelevant_region(painted.sample)
    return load_mask(backend, painted.mask, painted.sample)


def _fitted(region: NDArray[np.bool_], width: int, height: int) -> NDArray[np.bool_]:
    if region.shape == (height, width):
        return region
    return np.asarray(Image.fromarray(region).resize((width, height), Image.Resampling.NEAREST))
