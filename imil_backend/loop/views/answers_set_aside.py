"""Answers that do not count, or only in part, with what is needed to find them in Label Studio."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.errors import ImilError
from imil_backend.label_studio.labeling.answers import Answer
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.states import PAINTED, REVIEWED
from imil_backend.loop.projects.links import task_link
from imil_backend.store.tables import Annotation, Dataset, Project, SetAside

Item = dict[str, Any]


def set_aside(
    backend: Backend, session: Session, dataset: Dataset, standing: Iterable[Annotation]
) -> list[Item]:
    """Everything of a dataset that could not be used, with its reason; annotations with their task."""
    noted = session.scalars(select(SetAside).where(SetAside.dataset_id == dataset.id).order_by(SetAside.id))
    items: list[Item] = [
        {"kind": row.kind, "reference": row.reference, "reason": row.reason} for row in noted
    ]
    unread = (each for each in standing if each.answer == Answer.SET_ASIDE.value)
    return items + [_described(backend, session, each) for each in unread]


def passed_over(backend: Backend, session: Session, standing: Iterable[Annotation]) -> list[Item]:
    """Annotations that count except for a part of which no mask can be made."""
    partly = (each for each in standing if each.reason and each.answer in (PAINTED, REVIEWED))
    return [_described(backend, session, each) for each in partly]


def _described(backend: Backend, session: Session, annotation: Annotation) -> Item:
    project = session.get_one(Project, annotation.project_id)
    task = annotation.task.label_studio_id
    return {
        "kind": "annotation",
        "reference": f"annotation {annotation.label_studio_id} of task {task}",
        "reason": annotation.reason or "",
        "source": annotation.sample.name,
        "sample": annotation.sample.key,
        "task": task,
        "link": task_link(backend, project, task),
        "annotator": annotation.user,
        "annotator_name": None,
    }


def add_names(backend: Backend, items: Sequence[Item]) -> None:
    """Add who answered, by name, which Label Studio alone knows. Where it does not tell at once, none is."""
    found = [item for item in items if item["kind"] == "annotation" and "link" in item]
    if not found:
        return
    try:
        people = backend.label_studio.people()
    except ImilError:
        return
    for item in found:
        item["annotator_name"] = people.get(item["annotator"])
