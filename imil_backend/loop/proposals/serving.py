"""Proposed masks for Label Studio's own requests: it asks the ML backend first where it is to show any."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.errors import MaskError
from imil_backend.label_studio.labeling.label_config import ProjectMapping
from imil_backend.label_studio.labeling.task_data import sample_key_of
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.policy import policy_of
from imil_backend.loop.base.states import Purpose
from imil_backend.loop.proposals.offers import can_be_shown, latest_proposal, prediction_of
from imil_backend.store.tables import Project, Sample, Task

logger = logging.getLogger(__name__)


def with_proposed_masks(
    backend: Backend,
    project: Project,
    mapping: ProjectMapping,
    tasks: Sequence[Mapping[str, Any]],
    predictions: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Predictions with the masks that are proposed for their tasks; the score is the mask's if it has none.

    Args:
        backend: the store and the masks.
        project: which project.
        mapping: what its labeling config means.
        tasks: as Label Studio sends them.
        predictions: one for each task, in Label Studio's form.
    """
    if not can_be_shown(project, mapping):
        return [dict(each) for each in predictions]
    with backend.store.begin() as session:
        proposed = [_proposed(backend, session, project, mapping, task) for task in tasks]
    return [
        {**each, **found, **each, "result": [*each["result"], *found["result"]]} if found else dict(each)
        for each, found in zip(predictions, proposed, strict=True)
    ]


def _proposed(
    backend: Backend, session: Session, project: Project, mapping: ProjectMapping, task: Mapping[str, Any]
) -> dict[str, Any] | None:
    # Compared here: a request may hold anything for an id.
    own = (
        select(Task).join(Task.sample).where(Task.project_id == project.id, Sample.key == sample_key_of(task))
    )
    found = next((each for each in session.scalars(own) if each.label_studio_id == task.get("id")), None)
    proposal = latest_proposal(session, found.id) if found else None
    if found is None or proposal is None:
        return None
    if found.purpose != Purpose.REVIEW.value and not policy_of(project.dataset).proposals:
        return None
    try:
        return prediction_of(backend, mapping, found.sample, proposal)
    except MaskError as error:
        logger.warning("No mask is proposed for task %s: %s", task.get("id"), error)
        return None
