"""A Label Studio that has moved to a new URL."""

from __future__ import annotations

import logging

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from imil_backend.errors import NotFoundError, RoundError
from imil_backend.label_studio.labeling.task_data import sample_key_of
from imil_backend.loop.base.backend import Backend, find_project
from imil_backend.store.tables import Annotator, Dataset, Project, Sample, Task

logger = logging.getLogger(__name__)

COMPARED = 20  # tasks of a project


def follow_label_studio(backend: Backend, former: str) -> list[Project]:
    """Continue with the projects of a Label Studio that has moved to the URL of the settings.

    Nothing is changed in Label Studio. The tasks that were pushed to it prove that it is the same one.

    Returns:
        The projects that are used there from now on.

    Raises:
        NotFoundError: no project has this URL.
        RoundError: the URL of the settings is that of another Label Studio.
        LabelStudioError: it cannot be reached or refuses.
    """
    former, current = former.rstrip("/"), backend.settings.label_studio_url
    with backend.store.begin() as session:
        projects = list(session.scalars(select(Project).where(Project.instance == former)))
        known = _addresses(session)
    if former not in known or former == current:
        others = ", ".join(sorted(known - {current})) or "no other URL than LABEL_STUDIO_URL"
        raise NotFoundError(f"No project is known at {former}. Known: {others}.")
    for project in projects:
        if project.gone_at is None:
            _check_same(backend, project)
    with backend.store.begin() as session:
        session.execute(update(Project).where(Project.instance == former).values(instance=current))
        here = select(Annotator.label_studio_id).where(Annotator.instance == current)
        people = update(Annotator).where(Annotator.instance == former, Annotator.label_studio_id.not_in(here))
        session.execute(people.values(instance=current), execution_options={"synchronize_session": False})
        moved = update(Dataset).where(Dataset.source_instance == former)
        session.execute(moved.values(source_instance=current))
    return projects


def warn_of_other_addresses(backend: Backend) -> None:
    """Say in the log which projects are not synchronized, since they are in another Label Studio."""
    current = backend.settings.label_studio_url
    with backend.store.begin() as session:
        found = select(Project).where(Project.instance != current, Project.disconnected_at.is_(None))
        for project in session.scalars(found):
            logger.warning("%s", elsewhere(project, current))


def elsewhere(project: Project, current: str) -> str:
    """What is to be said of a project in another Label Studio than the settings name."""
    return (
        f"Dataset {project.dataset.name!r} is in project {project.label_studio_id} of {project.instance}, "
        f"but LABEL_STUDIO_URL is {current}. Set it back, or, if Label Studio has moved there, run: "
        f"imil moved {project.instance}"
    )


def _addresses(session: Session) -> set[str]:
    projects = session.scalars(select(Project.instance))
    sources = session.scalars(select(Dataset.source_instance).where(Dataset.source_instance.is_not(None)))
    return {*projects, *(address for address in sources if address)}


def _check_same(backend: Backend, project: Project) -> None:
    """See that a project at the address of the settings has tasks that were pushed to it."""
    current = backend.settings.label_studio_url
    with backend.store.begin() as session:
        taken = find_project(session, current, project.label_studio_id)
        pushed = select(Task.label_studio_id, Sample.key).join(Task.sample).order_by(Task.id.desc())
        mine = pushed.where(Task.project_id == project.id, ~Task.deleted).limit(COMPARED)
        keys = {row.label_studio_id: row.key for row in session.execute(mine)}
    if taken is not None:
        raise RoundError(
            f"Dataset {taken.dataset.name!r} is in project {project.label_studio_id} of {current} "
            f"already: that is not the same Label Studio as the one at {project.instance}."
        )
    try:
        backend.label_studio.project(project.label_studio_id)
        there = {
            int(task["id"]): sample_key_of(task)
            for task in backend.label_studio.named_tasks(project.label_studio_id, sorted(keys))
        }
    except NotFoundError:
        there = {}
        if not keys:
            raise
    if keys and not any(there.get(number) == key for number, key in keys.items()):
        raise RoundError(
            f"Project {project.label_studio_id} of {current} has none of the tasks that were pushed "
            f"to it at {project.instance}: it is another Label Studio. Nothing was changed. Check "
            "LABEL_STUDIO_URL."
        )
