"""A simulated clinician answers a round's open tasks with the data set's own masks. For demos and tests."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.label_studio.api.simulated_clinician import paint
from imil_backend.loop.asking.known_masks import irrelevant_region
from imil_backend.loop.base.backend import Backend, project_of
from imil_backend.loop.base.states import OPEN, Purpose
from imil_backend.loop.projects.mapping import mapping_of
from imil_backend.loop.rounds.lifecycle import latest_round
from imil_backend.store.tables import Annotation, Annotator, Dataset, Round, Task


def answer_open_tasks(
    backend: Backend, dataset: Dataset, progress: Callable[[int, int], None] | None = None
) -> int:
    """Paint every unanswered task of the open round through Label Studio's API.

    Where a round has several readers the token's user is one of them, and answers what that user has not
    answered; with another user's token it plays the next reader.

    Returns:
        How many tasks were answered.

    Raises:
        DatasetError: the data set came without masks, so there is nothing to paint.
    """
    with backend.store.begin() as session:
        project = project_of(session, dataset.id)
        round_ = latest_round(session, dataset.id)
    if project is None or round_ is None or round_.state != OPEN:
        return 0
    reader = backend.label_studio.user_id() if round_.readers > 1 else None
    with backend.store.begin() as session:
        tasks = _unanswered(session, round_, reader)
    if not tasks:
        return 0
    mapping = mapping_of(backend, project)
    for done, task in enumerate(tasks, start=1):
        paint(backend.label_studio, mapping, task.label_studio_id, irrelevant_region(task.sample))
        if progress:
            progress(done, len(tasks))
    return len(tasks)


def _unanswered(session: Session, round_: Round, reader: int | None) -> list[Task]:
    """The tasks but reviews that nobody has answered; of a reader, those that this one has not."""
    answered = select(Annotation.task_id).where(~Annotation.deleted)
    if reader is not None:
        answered = answered.join(Annotation.person).where(Annotator.label_studio_id == reader)
    waiting = select(Task).where(Task.round_id == round_.id, Task.purpose != Purpose.REVIEW.value)
    waiting = waiting.where(~Task.deleted, Task.id.not_in(answered))
    return list(session.scalars(waiting.order_by(Task.rank)))
