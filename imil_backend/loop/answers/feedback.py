"""What annotators see in Label Studio after an answer: that it does not count, and no guide a second time."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.errors import LabelStudioError, NotFoundError
from imil_backend.label_studio.labeling.answers import Answer
from imil_backend.label_studio.labeling.task_data import PROBLEM_KEY
from imil_backend.label_studio.labeling.words import problem_in
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.policy import policy_of
from imil_backend.store.tables import Annotation, Dataset, Project, Task

logger = logging.getLogger(__name__)


def problem_of(task: Mapping[str, Any]) -> str:
    """What a task of Label Studio says is wrong with its answers; "" for nothing."""
    return str(task["data"].get(PROBLEM_KEY) or "")


def tell_problems(backend: Backend, project: Project, told: Mapping[int, str]) -> None:
    """Have tasks say which of their answers do not count, and why. Idempotent.

    An answer is stored all the same where Label Studio does not take it; the next reconciliation tells it.

    Args:
        backend: the store and Label Studio.
        project: a disconnected one is left as it is.
        told: what each of these tasks of ours says now, by its id in Label Studio.
    """
    if project.disconnected_at is not None:
        return
    with backend.store.begin() as session:
        wanted = _problems(session, project)
    differing = [number for number, says in told.items() if wanted.get(number, "") != says]
    client = backend.label_studio
    try:
        for task in client.named_tasks(project.label_studio_id, differing):
            data = {**task["data"], PROBLEM_KEY: wanted.get(task["id"], "")}
            client.request("PATCH", f"/api/tasks/{task['id']}/", body={"data": data})
    except (LabelStudioError, NotFoundError) as error:
        logger.warning("Project %d was not told of problems: %s", project.label_studio_id, error)


def close_guide(backend: Backend, project: Project, number: int) -> None:
    """Open the instructions no longer by themselves once as many people as read each task have answered.

    What happened in the round before stands in them, so this is done in each round anew.

    Label Studio opens them for everybody or nobody, each time that the label stream is entered, and they
    swallow the first stroke. The button *Instructions* stays.

    Args:
        backend: the store and Label Studio.
        project: one that was connected keeps its team's setting.
        number: of the annotation that was just read, by its id in Label Studio; this is done with the first
            answer of each person in a round.
    """
    if project.connected is not None:
        return
    with backend.store.begin() as session:
        readers = policy_of(session.get_one(Dataset, project.dataset_id)).readers
        standing = select(Annotation).where(Annotation.project_id == project.id, ~Annotation.deleted)
        read = session.scalar(standing.where(Annotation.label_studio_id == number))
        if read is None:
            return
        in_round = standing.join(Annotation.task).where(Task.round_id == read.task.round_id)
        # Of two at most, for this is asked with each of a round's many answers.
        own = in_round.where(Annotation.annotator == read.annotator).limit(2)
        if len(session.scalars(own).all()) > 1:
            return
        people = in_round.with_only_columns(Annotation.annotator).distinct()
        if len(session.scalars(people).all()) < readers:
            return
    path = f"/api/projects/{project.label_studio_id}/"
    try:
        backend.label_studio.request("PATCH", path, body={"show_instruction": False})
    except (LabelStudioError, NotFoundError) as error:
        logger.warning("Project %d still opens its instructions: %s", project.label_studio_id, error)


def _problems(session: Session, project: Project) -> dict[int, str]:
    """Why answers of a project's tasks were set aside, by the task's id in Label Studio."""
    language = policy_of(session.get_one(Dataset, project.dataset_id)).language
    found = (
        select(Task.label_studio_id, Annotation.reason)
        .join(Annotation.task)
        .where(Annotation.project_id == project.id, ~Annotation.deleted)
        .where(Annotation.answer == Answer.SET_ASIDE.value)
        .order_by(Annotation.id)
    )
    problems: dict[int, dict[str, None]] = defaultdict(dict)
    for number, reason in session.execute(found):
        problems[number][problem_in(language, reason or "")] = None
    return {number: " ".join(reasons) for number, reasons in problems.items()}
