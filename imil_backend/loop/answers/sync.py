"""Syncs one annotation from Label Studio. A webhook is a hint; this reads the truth."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from imil_backend.errors import LabelStudioError
from imil_backend.label_studio.api.simulated_clinician import META
from imil_backend.label_studio.labeling.annotations import Reading, read_annotation
from imil_backend.label_studio.labeling.answers import Answer
from imil_backend.label_studio.labeling.label_config import ProjectMapping
from imil_backend.label_studio.labeling.task_data import sample_key_of
from imil_backend.loop.answers.annotators import annotator_key
from imil_backend.loop.answers.feedback import close_guide, problem_of, tell_problems
from imil_backend.loop.answers.outcomes import outcome_of
from imil_backend.loop.answers.sample_states import note_agreement, save_mask
from imil_backend.loop.base import audit
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.set_aside import forget_set_aside, note_set_aside
from imil_backend.loop.base.states import Outcome
from imil_backend.loop.projects.mapping import recent_mapping_of
from imil_backend.store.database import lock_row
from imil_backend.store.tables import Annotation, Erasure, Project, Sample, Task, now

logger = logging.getLogger(__name__)

NOT_OURS = "not ours"  # of a task that was not pushed from here
# What of an annotation the audit trail tells; another value of one of these is a change.
_TOLD = ("sample_id", "task_id", "annotator", "answer", "mask_sha256", "outcome", "reason", "deleted")


def sync_annotation(
    backend: Backend, project: Project, number: int, *, mapping: ProjectMapping | None = None
) -> str:
    """Sync one annotation from Label Studio. Idempotent.

    Created, updated, skipped, emptied and deleted annotations are all this one function. It may run twice,
    late, and in any order.

    Args:
        backend: the store and Label Studio.
        project: which project.
        number: the annotation's id in Label Studio.
        mapping: the project's, if it has been read already.

    Returns:
        What came of it, in a word: an answer, "deleted", or NOT_OURS.
    """
    labels = backend.label_studio
    raw = labels.annotation(number)
    # None where the annotation was deleted, is a draft again, or was moved away with its task.
    task = next(labels.named_tasks(project.label_studio_id, [int(raw["task"])]), None) if raw else None
    if raw is None or task is None:
        with _changing(backend, project, number) as session:
            _forget(session, project, number)  # another project may have been given its id since
        return "deleted"
    answer = keep_annotation(backend, project, raw, task, mapping or recent_mapping_of(backend, project))
    if answer != NOT_OURS:
        tell_problems(backend, project, {int(task["id"]): problem_of(task)})
        close_guide(backend, project, number)
    return answer


def keep_annotation(
    backend: Backend,
    project: Project,
    raw: Mapping[str, Any],
    label_studio_task: Mapping[str, Any],
    mapping: ProjectMapping,
    *,
    task_updated_at: str | None = None,
) -> str:
    """Store an annotation as it was just read.

    Args:
        backend: the store and the masks.
        project: which project.
        raw: the annotation as Label Studio's API gives it.
        label_studio_task: its task, with `id` and `data`.
        mapping: what the project's labels and choices mean.
        task_updated_at: the task's, read before the annotation was; without it the next reconciliation looks
            again.

    Returns:
        An answer, "set_aside" or NOT_OURS.
    """
    number = int(raw["id"])
    with backend.store.begin() as session:
        task = _task(session, project, label_studio_task["id"], sample_key_of(label_studio_task))
    if task is None:
        with _changing(backend, project, number) as session:
            return _not_ours(session, project, number, label_studio_task)
    sample = task.sample
    reading = read_annotation(raw, mapping, sample.width, sample.height)
    mask = save_mask(backend, reading.mask) if reading.mask is not None else None
    with _changing(backend, project, number) as session:
        outcome = outcome_of(backend, session, task, raw, reading, mask)
        _store(session, project, task, raw, reading, mask, outcome, task_updated_at)
    return reading.answer.value


@contextmanager
def _changing(backend: Backend, project: Project, number: int) -> Iterator[Session]:
    """A transaction in which an annotation may change; the agreement on what it was of and is of follows."""

    def samples(session: Session) -> set[int]:
        found = select(Annotation.sample_id).where(*standing(project, number))
        return set(session.scalars(found))

    with backend.store.begin() as session:
        lock_row(session, project)
        before = samples(session)
        yield session
        session.flush()
        for sample_id in before | samples(session):
            note_agreement(backend, session, sample_id)


def standing(project: Project, number: int | None = None) -> list[ColumnElement[bool]]:
    """Which annotations of a project, or of this id, Label Studio still has, as far as is known."""
    conditions = [Annotation.project_id == project.id, ~Annotation.deleted]
    return conditions if number is None else [*conditions, Annotation.label_studio_id == number]


def _task(session: Session, project: Project, number: int, sample_key: str) -> Task | None:
    """Our row of a task. The sample key in its data decides, for Label Studio may use task ids again."""
    return session.scalar(
        select(Task)
        .join(Task.sample)
        .where(Task.project_id == project.id, Sample.key == sample_key)
        .order_by((Task.label_studio_id == number).desc(), Task.id.desc())
        .limit(1)
    )


def _not_ours(session: Session, project: Project, number: int, task: Mapping[str, Any]) -> str:
    """An annotation of a task that is not in the store: set aside if it names a sample."""
    _forget(session, project, number)
    key = sample_key_of(task)
    if key and not _is_erased(session, key):
        reason = f"Its task {task['id']} names the sample {key}, which was not pushed to this project."
        note_set_aside(session, project.dataset_id, [("annotation", reference_of(number), reason)])
        return Answer.SET_ASIDE.value
    logger.info("Annotation %d is of a task that is not managed by this backend.", number)
    return NOT_OURS


def _is_erased(session: Session, key: str) -> bool:
    """Whether a sample is being erased, and its task is still to be deleted."""
    return any(key in erasure.plan.get("keys", ()) for erasure in session.scalars(select(Erasure)))


def _store(
    session: Session,
    project: Project,
    task: Task,
    raw: Mapping[str, Any],
    reading: Reading,
    mask_sha256: str | None,
    outcome: tuple[Outcome | None, float | None],
    task_updated_at: str | None,
) -> None:
    """Write what was read of an annotation, unless a later state is there; a change is noted."""
    number, updated_at = int(raw["id"]), _time(raw["updated_at"])
    forget_set_aside(session, project.dataset_id, "annotation", [reference_of(number)])
    annotation = _row(session, project, number, _time(raw["created_at"]))
    if annotation.label_studio_updated_at is not None and annotation.label_studio_updated_at > updated_at:
        return  # read by another sync in the meantime
    before = [getattr(annotation, name) for name in _TOLD]
    annotation.label_studio_updated_at = updated_at
    annotation.task_id = task.id
    annotation.sample_id = task.sample_id
    annotation.simulated = _is_simulated(raw)
    annotation.lead_time = _seconds(raw.get("lead_time"))
    annotation.answer = reading.answer.value
    annotation.mask_sha256 = mask_sha256
    annotation.outside = reading.outside
    annotation.outcome = outcome[0] and outcome[0].value
    annotation.proposal_dice = outcome[1]
    annotation.reason = reading.reason[:2000] or None
    annotation.task_updated_at = task_updated_at
    annotation.deleted = False
    annotation.annotator = annotator_key(session, project.instance, annotation, raw.get("completed_by"))
    if before != [getattr(annotation, name) for name in _TOLD]:
        annotation.synced_at = now()
        annotation.gold = False  # what somebody has looked at was another answer
        session.flush()
        audit.note_answer(session, audit.ANSWERED, annotation)


def _row(session: Session, project: Project, number: int, created_at: datetime) -> Annotation:
    """The row of an annotation, created if missing; another one that had its id before stands no longer."""
    for older in session.scalars(select(Annotation).where(*standing(project, number))).all():
        if older.label_studio_created_at != created_at:
            withdraw(session, older)
    annotation = session.scalar(
        select(Annotation).where(
            Annotation.project_id == project.id,
            Annotation.label_studio_id == number,
            Annotation.label_studio_created_at == created_at,
        )
    )
    if annotation is None:
        annotation = Annotation(
            project_id=project.id, label_studio_id=number, label_studio_created_at=created_at
        )
        session.add(annotation)
    return annotation


def _is_simulated(raw: Mapping[str, Any]) -> bool:
    regions = raw["result"] if isinstance(raw.get("result"), list) else []
    return any(isinstance(region, Mapping) and region.get("meta") == META for region in regions)


def _seconds(told: Any) -> float | None:
    """The time that an answer took; None where Label Studio does not tell a usable one."""
    is_number = isinstance(told, int | float) and not isinstance(told, bool)
    return float(told) if is_number and 0 <= told < math.inf else None


def _forget(session: Session, project: Project, number: int) -> None:
    forget_set_aside(session, project.dataset_id, "annotation", [reference_of(number)])
    for annotation in session.scalars(select(Annotation).where(*standing(project, number))).all():
        withdraw(session, annotation)


def withdraw(session: Session, annotation: Annotation) -> None:
    """Withdraw an annotation; its row and its mask stay."""
    annotation.deleted = True
    audit.note_answer(session, audit.WITHDRAWN, annotation)


def reference_of(number: int) -> str:
    """How an annotation is named among what is set aside."""
    return f"annotation {number}"


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as error:
        raise LabelStudioError(f"Label Studio gave {text!r} instead of a time.") from error
