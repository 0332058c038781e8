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
from imil_backend.store.tables import Annotation, Dataset, Project, SetAside

Item = dict[str, Any]


def set_aside(session: Session, dataset: Dataset, standing: Iterable[Annotation]) -> list[Item]:
    """Everything of a dataset that could not be used, with its reason; annotations with their task."""
    noted = session.scalars(select(SetAside).where(SetAside.dataset_id == dataset.id).order_by(SetAside.id))
    items: list[Item] = [
        {"kind": row.kind, "reference": row.reference, "reason": row.reason} for row in noted
    ]
    return items + [_described(session, each) for each in standing if each.answer == Answer.SET_ASIDE.value]


def passed_over(session: Session, standing: Iterable[Annotation]) -> list[Item]:
    """Annotations that count except for a part of which no mask can be made."""
    partly = (each for each in standing if each.reason and each.answer in (PAINTED, REVIEWED))
    return [_described(session, each) for each in partly]


def _described(session: Session, annotation: Annotation) -> Item:
    project = session.get_one(Project, annotation.project_id)
    task = annotation.task.label_studio_id
    return {
        "kind": "annotation",
        "reference": f"annotation {annotation.label_studio_id} of task {task}",
        "reason": annotation.reason or "",
        "source": annotation.sample.name,
        "sample": annotation.sample.key,
        "task": task,
        "link": f"{project.instance}/projects/{project.label_studio_id}/data?task={task}",
        "annotator": annotation.user,
        "annotator_name": None,
    }


def add_names(backend: Backend, items: Sequence[Item]) -> None:
    """Add who answered, by name, and links to the URL under which people open Label Studio.

    Label Studio alone knows both. Where it does not tell them at once, the items stay as they are.
    """
    found = [item for item in items if item["kind"] == "annotation" and "link" in item]
    if not found:
        return
    try:
        people, name = backend.label_studio.people(), backend.label_studio.own_name()
    except ImilError:
        return
    for item in found:
        item["annotator_name"] = people.get(item["annotator"])
        here = backend.settings.label_studio_url
        if name and item["link"].startswith(here):  # a project may be of another Label Studio
            item["link"] = name + item["link"].removeprefix(here)
