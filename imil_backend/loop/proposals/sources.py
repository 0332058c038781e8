"""Where proposed masks come from: a version that was trained with what was painted, or the open round."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.errors import LearningError
from imil_backend.learning.contract.launch import run_proposing
from imil_backend.learning.contract.proposed import (
    LEAST_CONFIDENCE,
    PROPOSED_FILE,
    Proposed,
    holds_masks,
    read_proposed,
)
from imil_backend.learning.contract.training_job import (
    TrainingJob,
    TrainingSample,
    read_samples,
    read_training_job,
    write_training_job,
)
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.proposals.reasons import PROPOSING, note_reason
from imil_backend.loop.versions.training_jobs import baseline_of, training_samples
from imil_backend.store.tables import Dataset, Sample, Version

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProposedMasks:
    """The masks that mask networks propose.

    Attributes:
        proposed: masks and confidences.
        places: of samples in these, by their keys.
        outside: whether the painted masks that were learned from mark what is relevant.
        source: what was learned from, in a few words.
    """

    proposed: Proposed
    places: Mapping[str, int]
    outside: bool
    source: str

    def of(self, sample: Sample) -> tuple[npt.NDArray[np.bool_], float] | None:
        """A sample's mask, (height, width), True = irrelevant, and the network's confidence in it, 0..1.

        None where it is not confident, or finds nothing or everything irrelevant.
        """
        place = self.places.get(sample.key)
        if place is None or self.proposed.confidence[place] < LEAST_CONFIDENCE:
            return None
        mask = self.proposed.mask(place, sample.width, sample.height)
        if mask.all() or not mask.any():
            return None
        return mask, float(self.proposed.confidence[place])


def kept_masks(session: Session, dataset: Dataset) -> ProposedMasks | None:
    """Those that the dataset's latest version with proposed masks was trained with, if there is one."""
    versions = select(Version).where(Version.dataset_id == dataset.id).order_by(Version.id.desc())
    for version in session.scalars(versions):
        directory = Path(version.directory)
        if holds_masks(directory / PROPOSED_FILE):
            samples = read_samples(directory)
            return _read(directory / PROPOSED_FILE, samples, f"version {version.name}")
    return None


def learned_masks(
    backend: Backend, dataset: Dataset, wanted: Collection[str], name: str
) -> ProposedMasks | None:
    """Those for some samples, by networks that learn now from all that has been painted; takes seconds.

    Args:
        backend: with the pixel cache.
        dataset: whose answers.
        wanted: keys of the samples that masks are proposed for.
        name: of the training job, unique among those that run at the same time.

    Returns:
        None if the networks are not good enough; the log says why.

    Raises:
        TrainingFailedError: the process failed.
    """
    with backend.store.begin() as session:
        baseline = baseline_of(session, dataset.id)
        if baseline is None:
            return None
        all_samples = training_samples(backend, session, dataset, baseline)
    samples = [each for each in all_samples if each.mask or each.key in wanted]
    directory = backend.path(PROPOSING, name, "x").parent
    shutil.rmtree(directory)  # what a process that was killed has left
    try:
        write_training_job(directory, _job(backend, baseline), samples)
        painted = sum(each.mask is not None for each in samples)
        path = run_proposing(directory)
        note_reason(backend, dataset.id, path)
        return _read(path, samples, f"{painted} painted masks")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _job(backend: Backend, baseline: Version) -> TrainingJob:
    """A job with the baseline's pixels, which are in the cache."""
    job = read_training_job(Path(baseline.directory))
    limits = backend.settings
    return TrainingJob(
        job.name,
        job.classes,
        job.channels,
        job.recipe,
        str(backend.cache),
        max_image_bytes=limits.max_image_bytes,
        max_image_pixels=limits.max_image_pixels,
        max_image_memory=limits.max_image_memory,
    )


def _read(path: Path, samples: Sequence[TrainingSample], source: str) -> ProposedMasks | None:
    try:
        keys, proposed = read_proposed(path)
    except LearningError as error:
        logger.warning("No masks are proposed in the editor: %s", error)
        return None
    logger.info("%s", proposed.reason)
    if not proposed.usable:
        return None
    ways = [each.outside for each in samples if each.mask]
    places = {key: place for place, key in enumerate(keys)}
    return ProposedMasks(proposed, places, bool(ways) and sum(ways) > len(ways) / 2, source)
