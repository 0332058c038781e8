"""What annotators are called: by a letter, which says who answered the same and not who that is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from imil_backend.store.tables import Annotation, Project

SIMULATED = "simulated clinician"
Names = Mapping[int | None, str]  # by the annotator's key; who answered first comes first


def pseudonyms(session: Session, dataset_id: int) -> Names:
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


def called(annotation: Annotation, names: Names) -> str:
    """Who has made an annotation."""
    return name_of(annotation.annotator, annotation.simulated, names)


def name_of(annotator: int | None, simulated: bool, names: Names) -> str:
    """What an annotator is called; the simulated clinician is never taken for a person."""
    return SIMULATED if simulated else names[annotator]


def with_names(entry: Mapping[str, Any], names: Names) -> dict[str, Any]:
    """An entry of the audit trail, or its details, that says who answered by name and not by key."""
    told = dict(entry)
    simulated, annotator = told.pop("simulated", False), told.pop("annotator", None)
    if simulated or annotator is not None:
        told["by"] = SIMULATED if simulated else names.get(annotator, "an annotator")
    return told


def _letters(number: int) -> str:
    """0 is A, 25 is Z, 26 is AA."""
    before, last = divmod(number, 26)
    return (_letters(before - 1) if before else "") + chr(ord("A") + last)
