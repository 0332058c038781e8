"""Samples whose mask is known: from the data set's mask column, or from an answer that was named."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session

from imil_backend.errors import DatasetError, MaskError, NotFoundError
from imil_backend.images.masks.masks import mask_from_png
from imil_backend.loop.answers.sample_states import load_mask
from imil_backend.loop.base import audit
from imil_backend.loop.base.backend import Backend, project_of
from imil_backend.loop.base.states import ANSWERS, PAINTED, REVIEWED
from imil_backend.store.tables import Annotation, Dataset, Sample, now

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Known:
    """The right answer to a sample.

    Attributes:
        answer: one of ANSWERS.
        mask: shape (height, width), True = irrelevant; None where the sample leaves training.
        annotation: whose answer it is; None: it is the data set's own mask.
    """

    answer: str
    mask: npt.NDArray[np.bool_] | None
    annotation: Annotation | None


def known_samples(dataset_id: int) -> Select[int]:
    """The ids of a dataset's samples that `known_of` is likely to know; their files are not read."""
    marked = select(Annotation.sample_id).where(
        ~Annotation.deleted, Annotation.gold, Annotation.answer.in_(ANSWERS)
    )
    own = Sample.clinician_mask.is_not(None)
    return select(Sample.id).where(Sample.dataset_id == dataset_id, or_(own, Sample.id.in_(marked)))


def known_of(backend: Backend, session: Session, sample: Sample) -> Known | None:
    """The right answer to a sample: the latest that was named, else the data set's mask, if either is known.

    A mask that cannot be read, or that leaves nothing of the image, is not known; the log says so.
    """
    marked = (
        select(Annotation)
        .where(Annotation.sample_id == sample.id, ~Annotation.deleted, Annotation.gold)
        .where(Annotation.answer.in_(ANSWERS))
        .order_by(Annotation.label_studio_updated_at.desc(), Annotation.id.desc())
        .limit(1)
    )
    try:
        if annotation := session.scalar(marked):
            return Known(annotation.answer, painted_by(backend, annotation), annotation)
        mask = irrelevant_region(sample) if sample.clinician_mask else None
    except (DatasetError, MaskError) as error:
        logger.warning("The mask of sample %s is not known: %s", sample.key, error)
        return None
    if mask is None or mask.all():
        return None
    return Known(PAINTED if mask.any() else REVIEWED, mask, None)


def name_gold(
    session: Session, dataset: Dataset, numbers: Sequence[int], by: str, *, gold: bool = True
) -> None:
    """Name answers as what those of gold tasks are compared with, or take that back. Idempotent.

    Args:
        session: of the store.
        dataset: whose answers.
        numbers: of annotations, their ids in Label Studio.
        by: who names them.
        gold: False takes it back.

    Raises:
        NotFoundError: an annotation is not there, or is no answer that counts.
    """
    project = project_of(session, dataset.id)
    for number in numbers:
        found = select(Annotation).where(
            Annotation.project_id == (project.id if project else None),
            Annotation.label_studio_id == number,
            ~Annotation.deleted,
            Annotation.answer.in_(ANSWERS),
        )
        annotation = session.scalar(found)
        if annotation is None:
            raise NotFoundError(
                f"Dataset {dataset.name!r} has no annotation {number} that counts. Label Studio shows an "
                "annotation's ID in its menu (*Copy Annotation ID*); `imil reconcile` reads what is new."
            )
        if annotation.gold != gold:
            annotation.gold = gold
            annotation.synced_at = now()
            sample_id = annotation.sample_id
            audit.note(
                session, dataset.id, audit.GOLD, sample_id=sample_id, annotation=number, by=by, gold=gold
            )


def painted_by(backend: Backend, annotation: Annotation) -> npt.NDArray[np.bool_] | None:
    """What an answer calls irrelevant, of shape (height, width); None where its sample leaves training.

    Raises:
        MaskError: the mask is missing.
    """
    if annotation.answer not in {PAINTED, REVIEWED}:
        return None
    if annotation.mask_sha256 is None:
        return np.zeros((annotation.sample.height, annotation.sample.width), bool)
    return load_mask(backend, annotation.mask_sha256, annotation.sample)


def irrelevant_region(sample: Sample) -> npt.NDArray[np.bool_]:
    """What the data set's own mask calls irrelevant, of shape (height, width).

    Raises:
        DatasetError: the sample has no mask, or one that cannot be used.
    """
    if sample.clinician_mask is None:
        raise DatasetError(
            f"Sample {sample.key} has no mask that the simulated clinician could paint. Import the "
            "data set with --mask."
        )
    try:
        marked = mask_from_png(Path(sample.clinician_mask), sample.width, sample.height)
    except (MaskError, OSError) as error:
        raise DatasetError(
            f"The mask of sample {sample.key} ({sample.name}) cannot be used: {error}."
        ) from error
    return marked if sample.clinician_mask_means == "irrelevant" else ~marked
