"""What the clinicians' answers mean for each sample: a mask, or exclusion from training."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.errors import MaskError
from imil_backend.files import write_atomically
from imil_backend.images.masks.masks import combine_masks, dice, mask_from_png, mask_to_png
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.policy import policy_of
from imil_backend.loop.base.states import ANSWERS, EXCLUDED_AS, Purpose
from imil_backend.store.tables import Annotation, Dataset, Round, Sample, Task

logger = logging.getLogger(__name__)


class CountedAnswer(NamedTuple):
    """An answer that counts: what the state of its sample rests on.

    100,000 such rows are read in a fraction of the time that as many annotations take with their tasks.
    """

    sample_id: int
    task_id: int
    annotator: int | None
    answer: str
    mask_sha256: str | None
    outside: bool
    purpose: str  # of its task
    round_id: int

    @classmethod
    def of(cls, annotation: Annotation) -> CountedAnswer:
        """That of an annotation."""
        task = annotation.task
        return cls(
            annotation.sample_id, annotation.task_id, annotation.annotator, annotation.answer,
            annotation.mask_sha256, annotation.outside, task.purpose, task.round_id,
        )  # fmt: skip


_COLUMNS = (
    Annotation.sample_id, Annotation.task_id, Annotation.annotator, Annotation.answer,
    Annotation.mask_sha256, Annotation.outside, Task.purpose, Task.round_id,
)  # fmt: skip


@dataclass(frozen=True)
class SampleState:
    """How training sees a sample after the clinicians' answers."""

    mask_sha256: str | None  # of what is irrelevant
    excluded_as: str | None  # label_wrong or unreadable: the sample leaves training
    outside: bool = False  # all masks that it is made of were painted with relevant strokes

    @property
    def confirmed(self) -> bool:
        """Whether clinicians let the label stand."""
        return self.excluded_as is None


def save_mask(backend: Backend, mask: npt.NDArray[np.bool_]) -> str:
    """Keep a mask under its content's hash.

    Args:
        backend: where to.
        mask: shape (height, width), True = irrelevant.

    Returns:
        The SHA-256 of its 1-bit PNG.
    """
    data = mask_to_png(mask)
    sha256 = hashlib.sha256(data).hexdigest()
    path = mask_path(backend, sha256)
    if not _is_kept(path, data):  # a damaged one is repaired
        write_atomically(path, data)
    return sha256


def _is_kept(path: Path, data: bytes) -> bool:
    """Whether a mask lies there; it is in use as of now, and not removed by `remove_mask` from here on."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            kept = file.read() == data and os.fstat(file.fileno()).st_nlink > 0
            if kept:
                os.utime(path)
            return kept
    except FileNotFoundError:
        return False


def remove_mask(path: Path, unused_since: float) -> bool:
    """Remove a mask that nothing refers to, unless `save_mask` has been asked for it since.

    Args:
        path: of the mask.
        unused_since: seconds since 1970, UTC.

    Returns:
        Whether it was removed.
    """
    with suppress(FileNotFoundError), path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_mtime < unused_since:
            path.unlink()
            return True
    return False


def mask_path(backend: Backend, sha256: str) -> Path:
    """Where the mask of this hash lies."""
    return backend.path("masks", sha256[:2], f"{sha256}.png")


def load_mask(backend: Backend, sha256: str, sample: Sample) -> npt.NDArray[np.bool_]:
    """A kept mask, of shape (height, width) of its sample.

    Raises:
        MaskError: the file is missing or damaged.
    """
    path = mask_path(backend, sha256)
    try:
        return mask_from_png(path, sample.width, sample.height)
    except FileNotFoundError as error:
        raise MaskError(
            f"The mask of sample {sample.key} is missing from {path}. Run `imil reconcile --full` to "
            "read it from Label Studio again."
        ) from error


def sample_states(
    backend: Backend,
    session: Session,
    dataset: Dataset,
    sample_id: int | None = None,
    *,
    until: Round | None = None,
) -> dict[int, SampleState]:
    """The state of every sample that was answered, or of this one alone, by sample id.

    It follows the policy on several annotators. By the latest answer: whether the sample leaves training, and
    the mask. By all of them, each with the latest answer: it leaves if more than half of them say so, and
    else the masks of those who do not are combined. A review stands for the answers that were in dispute.

    Args:
        backend: with the masks.
        session: of the store.
        dataset: whose samples.
        sample_id: of the only one that is wanted; None: all.
        until: the last round whose answers count; None: all.
    """
    states, annotators = {}, policy_of(dataset).annotators
    for sample, given in _answers(session, dataset.id, sample_id, until).items():
        answers = _decided(given)
        leaves = _leaves(answers, annotators)
        counted = answers[-1:] if annotators == "latest" else _of_annotators(answers)
        mask = None if leaves else _mask(backend, session, counted, annotators)
        painted = [each for each in counted if mask and each.mask_sha256]
        states[sample] = SampleState(mask, leaves, bool(painted) and all(each.outside for each in painted))
    return states


def standing_answers(session: Session, dataset_id: int, purpose: Purpose | None = None) -> list[Annotation]:
    """The annotations of a dataset that stand, those without an answer that counts, too.

    Args:
        session: of the store.
        dataset_id: of the dataset.
        purpose: of their tasks; None: all.
    """
    found = select(Annotation).join(Annotation.sample)
    if purpose is not None:
        found = found.join(Annotation.task).where(Task.purpose == purpose.value)
    return list(session.scalars(found.where(Sample.dataset_id == dataset_id, ~Annotation.deleted)))


def in_order(annotations: Iterable[Annotation]) -> list[Annotation]:
    """Those with an answer that counts, the earliest first."""
    counting = (each for each in annotations if each.answer in ANSWERS)
    return sorted(counting, key=lambda each: (each.label_studio_updated_at, each.id))


def note_agreement(backend: Backend, session: Session, sample_id: int) -> None:
    """Store the agreement of a sample's annotators: the mean Dice between their masks, reviews left out.

    Where one of the masks cannot be read there is no figure; an answer is stored all the same.
    """
    sample = session.get_one(Sample, sample_id)
    sample.agreement = None
    given = _answers(session, sample.dataset_id, sample_id).get(sample_id, [])
    painted = _of_annotators([each for each in given if each.purpose == Purpose.ASKED.value])
    if len(painted) < 2:
        return
    try:
        masks = [_load(backend, answer, sample) for answer in painted]
    except MaskError as error:
        logger.warning("The agreement on sample %s is not known: %s", sample.key, error)
        return
    pairs = [dice(one, other) for one, other in combinations(masks, 2)]
    sample.agreement = sum(pairs) / len(pairs)


def _answers(
    session: Session, dataset_id: int, sample_id: int | None = None, until: Round | None = None
) -> dict[int, list[CountedAnswer]]:
    """The answers to each sample, or to this one, oldest first; those of gold tasks are none."""
    answers: dict[int, list[CountedAnswer]] = defaultdict(list)
    found = (
        select(*_COLUMNS)
        .join(Annotation.sample)
        .join(Annotation.task)
        .where(Sample.dataset_id == dataset_id, Task.purpose != Purpose.GOLD.value)
        .where(~Annotation.deleted, Annotation.answer.in_(ANSWERS))
        .order_by(Annotation.label_studio_updated_at, Annotation.id)
    )
    if sample_id is not None:
        found = found.where(Annotation.sample_id == sample_id)
    if until is not None:
        found = found.where(Task.round_id <= until.id)  # later rounds have later ids
    for answer in map(CountedAnswer._make, session.execute(found)):
        answers[answer.sample_id].append(answer)
    return answers


def decides(review: CountedAnswer, answers: Iterable[CountedAnswer]) -> bool:
    """Whether an answer is a review of other people's: nobody reviews an answer of their own.

    Args:
        review: an answer.
        answers: all to the same sample.
    """
    if review.purpose != Purpose.REVIEW.value:
        return False
    asked = (each for each in answers if each.purpose == Purpose.ASKED.value)
    return all(each.annotator != review.annotator for each in asked if each.round_id == review.round_id)


def _decided(answers: list[CountedAnswer]) -> list[CountedAnswer]:
    """The answers that count: the latest review, and what was answered in later rounds."""
    reviews = [each for each in answers if decides(each, answers)]
    if not reviews:
        return answers
    last = max(each.round_id for each in reviews)
    review = [each for each in reviews if each.round_id == last][-1]
    return [each for each in answers if each is review or each.round_id > review.round_id]


def _of_each(answers: list[CountedAnswer]) -> list[CountedAnswer]:
    """The latest answer of each annotator."""
    return list({answer.annotator: answer for answer in answers}.values())


def _of_annotators(answers: list[CountedAnswer]) -> list[CountedAnswer]:
    """The latest answer of each annotator, of those that leave the sample in training."""
    return [answer for answer in _of_each(answers) if answer.answer not in EXCLUDED_AS]


def _leaves(answers: list[CountedAnswer], annotators: str) -> str | None:
    """Why a sample leaves training, if it does."""
    asked = answers[-1:] if annotators == "latest" else _of_each(answers)
    leaving = [answer.answer for answer in asked if answer.answer in EXCLUDED_AS]
    return leaving[-1] if 2 * len(leaving) > len(asked) else None


def _mask(backend: Backend, session: Session, painted: list[CountedAnswer], annotators: str) -> str | None:
    if len(painted) == 1:
        return painted[0].mask_sha256
    sample = session.get_one(Sample, painted[0].sample_id)
    combined = combine_masks([_load(backend, answer, sample) for answer in painted], annotators)
    return save_mask(backend, combined) if combined.any() else None


def _load(backend: Backend, answer: CountedAnswer, sample: Sample) -> npt.NDArray[np.bool_]:
    if answer.mask_sha256 is None:
        return np.zeros((sample.height, sample.width), bool)
    return load_mask(backend, answer.mask_sha256, sample)
