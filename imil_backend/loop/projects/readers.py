"""Tells Label Studio how many people answer each task of a round, and that nobody is served reviews."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import select

from imil_backend.label_studio.api.task_overlap import (
    keep_from_label_stream,
    set_project_readers,
    set_task_readers,
)
from imil_backend.loop.base import audit
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.states import Purpose
from imil_backend.store.tables import Project, Round, Task


def ask_readers(backend: Backend, project: Project, round_: Round) -> None:
    """Have Label Studio show each task of a round to as many people as are to answer it.

    A project of our own gets the number as its setting. In a connected one the setting is the team's and
    stays; the round's own tasks alone get it. Where one reader has always been enough, nothing is changed.

    Raises:
        LabelStudioError: Label Studio cannot be reached or refuses.
    """
    with backend.store.begin() as session:
        told = audit.latest(session, round_.dataset_id, audit.READERS)
        tasks = set(
            session.scalars(
                select(Task.label_studio_id).where(
                    Task.round_id == round_.id, ~Task.deleted, Task.purpose != Purpose.REVIEW.value
                )
            )
        )
    if round_.readers == 1 and told is None:
        return
    if told is None or told.details["readers"] != round_.readers:
        with backend.store.begin() as session:  # before, since it may be done and the answer lost
            details = {"readers": round_.readers}
            audit.note(session, round_.dataset_id, audit.READERS, round_id=round_.id, **details)
    tell = set_task_readers if is_a_teams(project) else set_project_readers
    tell(backend.label_studio, project.label_studio_id, round_.readers, tasks)


def keep_reviews_apart(backend: Backend, project: Project, listed: Iterable[Mapping[str, Any]]) -> None:
    """Have no label stream serve reviews that are open again, since their answer was deleted. Idempotent.

    Args:
        backend: the store and Label Studio.
        project: which project.
        listed: its tasks, as just read.

    Raises:
        LabelStudioError: Label Studio cannot be reached or refuses.
    """
    with backend.store.begin() as session:
        own = (Task.project_id == project.id, Task.purpose == Purpose.REVIEW.value, ~Task.deleted)
        reviews = set(session.scalars(select(Task.label_studio_id).where(*own)))
    for task in listed:
        if task["id"] in reviews and not task["is_labeled"]:
            keep_from_label_stream(backend.label_studio, task["id"])


def is_a_teams(project: Project) -> bool:
    """Whether a project was there before, and its settings are its team's."""
    return project.connected is not None
