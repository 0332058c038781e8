"""Reconciliation: compares a whole project with Label Studio, whatever events were lost."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.errors import (
    LabelStudioError,
    NotFoundError,
    SettingsError,
    StoreError,
)
from imil_backend.label_studio.api.webhooks import Change, ensure_webhook
from imil_backend.label_studio.labeling.label_config import ProjectMapping
from imil_backend.label_studio.labeling.task_data import sample_key_of
from imil_backend.loop.answers.feedback import problem_of, tell_problems
from imil_backend.loop.answers.sample_states import note_agreement
from imil_backend.loop.answers.sync import keep_annotation, reference_of, standing, sync_annotation, withdraw
from imil_backend.loop.base import audit, timestamps
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.set_aside import set_aside
from imil_backend.loop.projects.mapping import mapping_of
from imil_backend.loop.projects.readers import keep_reviews_apart
from imil_backend.store.database import lock_row
from imil_backend.store.tables import Annotation, Project, Sample, Task, now

logger = logging.getLogger(__name__)


@dataclass
class Differences:
    """What a reconciliation found and fixed."""

    seen: int = 0  # annotations in Label Studio
    synced: int = 0  # of these, read because they were new or had changed
    deleted: int = 0  # annotations that Label Studio no longer has
    tasks_deleted: int = 0
    set_aside: int = 0  # annotations that could not be read; the rest went on
    webhook: str | None = None  # "created" or "repaired", if it was not as it should be
    problem: str | None = None  # why the webhook could not be checked
    gone: bool = False  # Label Studio has the project no longer


def reconcile(backend: Backend, project: Project, *, full: bool = False) -> Differences:
    """Compare all annotations of a project with the store, sync those that differ, and repair the webhook.

    Deletions leave no other trace than an id that is gone, so the ids are compared as a set. Changes are
    told by Label Studio's own clock: a task's `updated_at` moves with each of its annotations.

    A project that Label Studio no longer has is noted once: its answers no longer count, while their rows,
    masks and audit trail stay. Should it come back, from a backup for instance, they stand again.

    Args:
        backend: the store and Label Studio.
        project: which project.
        full: sync every annotation, not only those of tasks that have changed.

    Raises:
        LabelStudioError: Label Studio cannot be reached or refuses; nothing is taken for deleted by that.
    """
    differences = _reconcile(backend, project, full)
    timestamps.touch(backend, timestamps.RECONCILIATION, project.id)
    return differences


def _reconcile(backend: Backend, project: Project, full: bool) -> Differences:
    try:
        mapping = mapping_of(backend, project)
    except NotFoundError:
        return _note_gone(backend, project)
    _note_back(backend, project)
    differences = Differences()
    with backend.store.begin() as session:
        columns = select(Annotation.label_studio_id, Annotation.task_updated_at)
        answers = session.execute(columns.where(*standing(project)))
        known = {row.label_studio_id: row.task_updated_at for row in answers}
        # Before the listing, which may miss what is being pushed meanwhile.
        pushed = set(session.scalars(select(Task.id).where(Task.project_id == project.id)))
    ours: dict[int, str] = {}
    told: dict[int, str] = {}
    listed = []
    for task in backend.label_studio.tasks(project.label_studio_id):
        listed.append({name: task.get(name) for name in ("id", "is_labeled")})
        if key := sample_key_of(task):
            ours[task["id"]], told[task["id"]] = key, problem_of(task)
    summaries = backend.label_studio.annotation_summaries(project.label_studio_id)
    there = {seen.annotation_id: seen for seen in summaries if seen.task_id in ours}
    differences.seen = len(there)
    changed = {
        seen.task_id
        for seen in there.values()
        if full or known.get(seen.annotation_id) != seen.task_updated_at
    }
    _keep(backend, project, sorted(changed), mapping, differences)
    for number in known.keys() - there.keys():
        sync_annotation(backend, project, number, mapping=mapping)
        differences.deleted += 1
    differences.tasks_deleted = _mark_tasks(backend, project, pushed, ours)
    tell_problems(backend, project, told)
    if project.disconnected_at is None:
        keep_reviews_apart(backend, project, listed)
        _repair_webhook(backend, project, differences)
    return differences


def _keep(
    backend: Backend,
    project: Project,
    tasks: Sequence[int],
    mapping: ProjectMapping,
    differences: Differences,
) -> None:
    """Keep every annotation of these tasks, several tasks in a request."""
    for task in backend.label_studio.named_tasks(project.label_studio_id, tasks, whole=True):
        for raw in task["annotations"]:
            try:
                keep_annotation(backend, project, raw, task, mapping, task_updated_at=str(task["updated_at"]))
                differences.synced += 1
            except StoreError:
                raise  # not the annotation's fault
            except Exception as error:  # noqa: BLE001 - whatever Label Studio let somebody write into it
                _set_aside(backend, project, int(raw["id"]), int(task["id"]), error)
                differences.set_aside += 1


def _set_aside(backend: Backend, project: Project, number: int, task: int, error: Exception) -> None:
    """An annotation that cannot be read is set aside until the next reconciliation."""
    logger.warning("Annotation %d cannot be read", number, exc_info=error)
    reason = f"It belongs to task {task} and cannot be read ({type(error).__name__}: {error})."
    set_aside(backend, project.dataset_id, "annotation", reference_of(number), reason)


def _mark_tasks(backend: Backend, project: Project, pushed: Collection[int], there: Mapping[int, str]) -> int:
    """Mark the tasks that Label Studio no longer has; they no longer count in their round."""
    gone = 0
    with backend.store.begin() as session:
        tasks = select(Task.id, Task.label_studio_id, Sample.key, Task.deleted).join(Task.sample)
        for task, number, key, deleted in session.execute(tasks.where(Task.project_id == project.id)).all():
            missing = there.get(number) != key
            if task in pushed and missing != deleted:
                session.get_one(Task, task).deleted = missing
                gone += missing
    return gone


def _repair_webhook(backend: Backend, project: Project, differences: Differences) -> None:
    """Check that our webhook exists and is enabled; without it answers wait for a reconciliation."""
    current, *former = backend.webhook_secrets
    own_url = backend.settings.own_url
    try:
        change = ensure_webhook(
            backend.label_studio, project.label_studio_id, own_url, current, former=former
        )
    except (LabelStudioError, NotFoundError, SettingsError) as error:
        logger.warning("The webhook of project %d cannot be checked: %s", project.label_studio_id, error)
        differences.problem = str(error)
        return
    if change is Change.KEPT:
        return
    differences.webhook = change.value
    logger.warning(
        "The webhook of project %d was repaired: it was %s.", project.label_studio_id, change.value
    )
    with backend.store.begin() as session:
        audit.note(
            session,
            project.dataset_id,
            audit.WEBHOOK_REPAIRED,
            project=project.label_studio_id,
            how=change.value,
        )


def _note_gone(backend: Backend, project: Project) -> Differences:
    """Withdraw the answers of a project that was deleted."""
    differences = Differences(gone=True)
    with backend.store.begin() as session:
        row = _held(session, project)
        if row.gone_at is not None:
            return differences
        row.gone_at = now()
        logger.warning(
            "Label Studio's project %d was deleted; its answers no longer count.", project.label_studio_id
        )
        audit.note(session, project.dataset_id, audit.PROJECT_GONE, project=project.label_studio_id)
        answers = session.scalars(select(Annotation).where(*standing(project))).all()
        for annotation in answers:
            withdraw(session, annotation)
        tasks = session.scalars(select(Task).where(Task.project_id == project.id, ~Task.deleted)).all()
        for task in tasks:
            task.deleted = True
        session.flush()
        for sample_id in {annotation.sample_id for annotation in answers}:
            note_agreement(backend, session, sample_id)
        differences.deleted, differences.tasks_deleted = len(answers), len(tasks)
    return differences


def _note_back(backend: Backend, project: Project) -> None:
    if project.gone_at is None:
        return
    with backend.store.begin() as session:
        row = _held(session, project)
        if row.gone_at is not None:
            row.gone_at = None
            audit.note(session, project.dataset_id, audit.PROJECT_BACK, project=project.label_studio_id)


def _held(session: Session, project: Project) -> Project:
    lock_row(session, project)
    return session.get_one(Project, project.id)
