"""What is proposed for a task: the mask, whether it is shown, and its form in Label Studio."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.label_studio.labeling.brush_regions import brush_region
from imil_backend.label_studio.labeling.label_config import ProjectMapping
from imil_backend.loop.answers.sample_states import load_mask, save_mask
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.policy import Policy
from imil_backend.loop.projects.connection import takes_predictions
from imil_backend.loop.proposals.sources import ProposedMasks
from imil_backend.store.tables import Project, Proposal, Sample, Task

REGION = "proposed"  # id of the region that the editor shows


@dataclass(frozen=True)
class Offer:
    """A mask for a sample's task, kept in the backend; see `Proposal`."""

    mask_sha256: str
    outside: bool
    confidence: float
    shown: bool
    version: str
    source: str


def are_proposed(project: Project, mapping: ProjectMapping, policy: Policy) -> bool:
    """Whether masks are proposed in a project."""
    return policy.proposals and can_be_shown(project, mapping)


def can_be_shown(project: Project, mapping: ProjectMapping) -> bool:
    """Whether a project's editor can show a mask to begin with: it has a brush, and takes predictions."""
    return mapping.brush_name is not None and takes_predictions(project)


def offers_of(
    backend: Backend, masks: ProposedMasks | None, policy: Policy, version: str
) -> Callable[[Sample, int], Offer | None]:
    """What is proposed for a sample in the round of a number, if anything.

    Args:
        backend: where masks are kept.
        masks: what mask networks propose.
        policy: with the share of the control group.
        version: the predictions' model version.
    """

    def offer(sample: Sample, round_number: int) -> Offer | None:
        found = masks.of(sample) if masks else None
        if masks is None or found is None:
            return None
        mask, confidence = found
        shown = not in_control_group(sample.key, round_number, policy.control_share)
        return Offer(save_mask(backend, mask), masks.outside, confidence, shown, version, masks.source)

    return offer


def in_control_group(sample_key: str, round_number: int, share: float) -> bool:
    """Whether a sample's task is drawn to be shown without a proposed mask; the same whenever it is asked."""
    digest = hashlib.sha256(f"{round_number} {sample_key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def keep_offer(session: Session, task: Task, offer: Offer) -> None:
    """Note what is proposed for a task. Idempotent."""
    if not stands(latest_proposal(session, task.id), offer):
        session.add(Proposal(task_id=task.id, **vars(offer)))


def stands(proposal: Proposal | None, offer: Offer) -> bool:
    """Whether a proposal is this offer already."""
    names = ("mask_sha256", "outside", "shown", "version")
    return proposal is not None and all(getattr(proposal, name) == getattr(offer, name) for name in names)


def latest_proposal(session: Session, task_id: int) -> Proposal | None:
    """What is proposed for a task now, shown or not."""
    found = select(Proposal).where(Proposal.task_id == task_id).order_by(Proposal.id.desc()).limit(1)
    return session.scalar(found)


def prediction_of(
    backend: Backend, mapping: ProjectMapping, sample: Sample, offer: Offer | Proposal
) -> dict[str, Any]:
    """An offer in Label Studio's form; an empty result where it is not shown.

    Raises:
        MaskError: its mask is missing.
    """
    regions = []
    if offer.shown:
        mask = load_mask(backend, offer.mask_sha256, sample)
        regions.append(brush_region(mapping, mask, REGION, outside=offer.outside))
    return {"result": regions, "score": round(offer.confidence, 4), "model_version": offer.version}
