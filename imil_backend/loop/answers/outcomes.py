"""What became of the mask that was proposed for an answer's task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.errors import MaskError
from imil_backend.images.masks.masks import dice
from imil_backend.label_studio.labeling.annotations import Reading, begins_with_a_prediction
from imil_backend.label_studio.labeling.answers import Answer
from imil_backend.loop.answers.sample_states import load_mask
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.states import ANSWERS, Outcome
from imil_backend.store.tables import Proposal, Task


def outcome_of(
    backend: Backend,
    session: Session,
    task: Task,
    annotation: Mapping[str, Any],
    reading: Reading,
    mask_sha256: str | None,
) -> tuple[Outcome | None, float | None]:
    """The outcome, and the Dice coefficient of proposed and painted mask.

    Args:
        backend: with the masks.
        session: of the store.
        task: that the annotation is of.
        annotation: as Label Studio's API gives it.
        reading: what it means.
        mask_sha256: of its mask as it is kept.

    Returns:
        None, None where nothing was proposed, or nobody answered. The coefficient is None too where the
        answer says nothing of what is irrelevant.
    """
    proposals = session.scalars(
        select(Proposal).where(Proposal.task_id == task.id).order_by(Proposal.id)
    ).all()
    if not proposals or reading.answer.value not in ANSWERS:
        return None, None
    latest = proposals[-1]
    return _outcome(proposals, annotation, mask_sha256), _dice(backend, task, latest, reading)


def _outcome(
    proposals: Sequence[Proposal], annotation: Mapping[str, Any], mask_sha256: str | None
) -> Outcome:
    if not proposals[-1].shown:
        return Outcome.CONTROL
    if not begins_with_a_prediction(annotation):
        return Outcome.PAINTED
    if mask_sha256 is None:
        return Outcome.REJECTED
    # Masks may have been proposed anew while the editor showed an earlier one.
    accepted = any(each.mask_sha256 == mask_sha256 for each in proposals)
    return Outcome.ACCEPTED if accepted else Outcome.CORRECTED


def _dice(backend: Backend, task: Task, proposal: Proposal, reading: Reading) -> float | None:
    if reading.mask is None and reading.answer is not Answer.NOTHING:
        return None
    painted = reading.mask
    if painted is None:
        painted = np.zeros((task.sample.height, task.sample.width), bool)
    try:
        return dice(load_mask(backend, proposal.mask_sha256, task.sample), painted)
    except MaskError:
        return None  # its file is missing; the answer counts all the same
