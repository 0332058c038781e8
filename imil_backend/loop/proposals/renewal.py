"""Proposed masks while a round is open: learned from what has been painted, and again as more is."""

from __future__ import annotations

import logging
import math

from sqlalchemy import select

from imil_backend.learning.contract.proposed import FEWEST_GROUPS
from imil_backend.loop.base.backend import Backend, project_of
from imil_backend.loop.base.locks import locked, wait_for_erasures
from imil_backend.loop.base.policy import policy_of
from imil_backend.loop.base.states import OPEN, Purpose
from imil_backend.loop.projects.mapping import mapping_of
from imil_backend.loop.proposals.offers import are_proposed
from imil_backend.loop.proposals.painted import painted_groups
from imil_backend.loop.proposals.refresh import refresh_proposals
from imil_backend.loop.proposals.sources import learned_masks
from imil_backend.loop.queues.engine import LABELLING_QUEUE
from imil_backend.loop.queues.names import PROPOSE_WORKFLOW
from imil_backend.loop.queues.workflow_queues import WorkflowQueues
from imil_backend.store.tables import Annotation, Dataset, Round, Sample, Task

GROWTH = 4 / 3  # of the painted groups (patients), before masks are learned again

logger = logging.getLogger(__name__)


def enqueue_due_renewals(backend: Backend, queues: WorkflowQueues, dataset_id: int) -> None:
    """Have masks proposed again in a dataset's open round if enough was painted since. Idempotent.

    Also right after a push: tasks are pushed with the masks of the last training, a little wider than what
    was painted, and exact ones should replace them before clinicians look.
    """
    with backend.store.begin() as session:
        dataset = session.get_one(Dataset, dataset_id)
        opened = select(Round.id).where(Round.dataset_id == dataset_id, Round.state == OPEN)
        round_id = session.scalar(opened.order_by(Round.id.desc()).limit(1))
        step = renewal_step(painted_groups(session, dataset_id))
    if round_id is not None and step is not None and policy_of(dataset).proposals:
        workflow_id = f"propose-round-{round_id}-{step}"
        queues.enqueue(PROPOSE_WORKFLOW, LABELLING_QUEUE, round_id, step, workflow_id=workflow_id)


def renewal_step(groups: int) -> int | None:
    """How often masks have been learned when so many groups are painted, less one; None: never yet."""
    return None if groups < FEWEST_GROUPS else int(math.log(groups / FEWEST_GROUPS, GROWTH) + 1e-9)


def renew_proposals(backend: Backend, round_id: int, step: int) -> int:
    """Learn from what has been painted so far, and propose masks for what nobody has answered.

    Args:
        backend: the store and Label Studio.
        round_id: of an open round.
        step: of `renewal_step`; where a later one is due by now, that one does it.

    Returns:
        How many tasks have another proposal than before.

    Raises:
        LabelStudioError: Label Studio cannot be reached or refuses.
        TrainingFailedError: the training of the mask networks failed.
    """
    with backend.store.begin() as session:
        round_ = session.get_one(Round, round_id)
        project = project_of(session, round_.dataset_id)
        due = renewal_step(painted_groups(session, round_.dataset_id))
    if round_.state != OPEN or project is None or due is None or due > step:
        return 0
    mapping = mapping_of(backend, project)
    if not are_proposed(project, mapping, policy_of(project.dataset)):
        return 0
    with backend.store.begin() as session:
        answered = select(Annotation.task_id).where(~Annotation.deleted)
        waiting = select(Sample.key).join(Task, Task.sample_id == Sample.id)
        waiting = waiting.where(Task.project_id == project.id, Task.purpose == Purpose.ASKED.value)
        waiting = waiting.where(~Task.deleted, Task.id.not_in(answered))
        keys = set(session.scalars(waiting))
    with locked(backend, "propose", round_id):
        wait_for_erasures(backend)
        masks = learned_masks(backend, project.dataset, keys, f"round-{round_id}")
        changed = refresh_proposals(backend, project, mapping, masks)
    logger.info("Masks are proposed anew for %d tasks of round %d.", changed, round_.number)
    return changed
