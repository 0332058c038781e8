"""Whether images are our own making: they say nothing about patients, and so do results on them."""

from __future__ import annotations

import re

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.images.phantoms import IS_PHANTOM
from imil_backend.store.tables import Sample

PHANTOMS, PLANTED = "phantoms", "planted"
# What `imil phantoms` and `imil plant` call their files, and what is found fast among a million names.
_NAMED = {
    PHANTOMS: (IS_PHANTOM, "%phantom-%"),
    PLANTED: (re.compile(r"\d{6}-planted\.png$"), "%-planted.png"),
}


def made_as(session: Session, dataset_id: int) -> str | None:
    """PHANTOMS or PLANTED where any of a dataset's images is one, as its name tells; else None."""
    return next((kind for kind in _NAMED if _has(session, dataset_id, kind)), None)


def _has(session: Session, dataset_id: int, kind: str) -> bool:
    pattern, fast = _NAMED[kind]
    own = select(Sample.id).where(Sample.dataset_id == dataset_id, Sample.name.like(fast))
    found = own.where(Sample.name.regexp_match(pattern.pattern)).limit(1)
    return session.scalar(found) is not None
