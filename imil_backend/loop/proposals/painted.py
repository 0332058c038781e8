"""How much has been painted, which decides whether masks can be learned."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from imil_backend.loop.base.states import PAINTED, Purpose
from imil_backend.store.tables import Annotation, Sample, Task


def painted_groups(session: Session, dataset_id: int) -> int:
    """Of how many groups (patients) images were painted, in any round."""
    found = (
        select(func.count(func.distinct(Sample.group)))
        .select_from(Annotation)
        .join(Annotation.sample)
        .join(Annotation.task)
        .where(
            Sample.dataset_id == dataset_id,
            Task.purpose != Purpose.GOLD.value,
            ~Annotation.deleted,
            Annotation.answer == PAINTED,
            Annotation.mask_sha256.is_not(None),
        )
    )
    return session.scalar(found) or 0
