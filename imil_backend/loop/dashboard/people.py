"""What annotators are called on pages: by a letter, which says who answered the same and not who that is."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from imil_backend.store.tables import Annotation, Project

SIMULATED = "simulated clinician"
Pseudonyms = Mapping[int | None, str]  # by the user's number in Label Studio


def pseudonyms(session: Session, dataset_id: int) -> Pseudonyms:
    """A dataset's annotators: A is who answered first. They stay the same as others come."""
    first = (
        select(Annotation.annotator, func.min(Annotation.id))
        .join(Project, Project.id == Annotation.project_id)
        .where(Project.dataset_id == dataset_id)
        .group_by(Annotation.annotator)
        .order_by(func.min(Annotation.id))
    )
    return {
        annotator: f"annotator {_letters(number)}"
        for number, (annotator, _) in enumerate(session.execute(first))
    }


def called(annotation: Annotation, names: Pseudonyms) -> str:
    """Who has made an annotation; the simulated clinician is never taken for a person."""
    return SIMULATED if annotation.simulated else names[annotation.annotator]


def _letters(number: int) -> str:
    """0 is A, 25 is Z, 26 is AA."""
    before, last = divmod(number, 26)
    return (_letters(before - 1) if before else "") + chr(ord("A") + last)
