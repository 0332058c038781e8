"""Has Label Studio show what is proposed now, for the tasks that nobody has answered."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import select

from imil_backend.label_studio.api.predictions import put_predictions, show_predictions
from imil_backend.label_studio.labeling.label_config import ProjectMapping
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.policy import policy_of
from imil_backend.loop.base.states import Purpose
from imil_backend.loop.projects.mapping import shows_something
from imil_backend.loop.projects.readers import is_a_teams
from imil_backend.loop.proposals.offers import (
    Offer,
    are_proposed,
    keep_offer,
    latest_proposal,
    offers_of,
    prediction_of,
    stands,
)
from imil_backend.loop.proposals.sources import ProposedMasks
from imil_backend.loop.versions.champions import champion_of
from imil_backend.store.tables import Project, Proposal, Round, Task, Version

logger = logging.getLogger(__name__)


def refresh_proposals(
    backend: Backend,
    project: Project,
    mapping: ProjectMapping,
    masks: ProposedMasks | None,
    *,
    done: Collection[int] = (),
) -> int:
    """Propose masks for all tasks of a project that have no annotation, those of earlier rounds too.

    Idempotent; what was interrupted is finished by the next call. A prediction that is there is replaced.

    Args:
        backend: the store and Label Studio.
        project: which project.
        mapping: what its labeling config means.
        masks: what mask networks propose.
        done: ids in Label Studio of tasks that were pushed just now with what these masks propose.

    Returns:
        How many tasks have another proposal than before.

    Raises:
        LabelStudioError: Label Studio cannot be reached or refuses.
    """
    if masks is None or not are_proposed(project, mapping, policy_of(project.dataset)):
        return 0
    listed = {task["id"]: task for task in backend.label_studio.tasks(project.label_studio_id)}
    open_ = {number for number, task in listed.items() if not task["total_annotations"]} - set(done)
    changed = _changed(backend, project, masks, open_)
    if shows_something(mapping):  # the champion's predictions come with the masks, when Label Studio asks
        for task, offer in changed.values():
            _keep(backend, task, offer)
        return len(changed)
    _put(backend, project, mapping, changed, listed)
    if not is_a_teams(project):
        _show(backend, project)
    return len(changed)


def _show(backend: Backend, project: Project) -> None:
    """Have our own project show the latest proposals."""
    with backend.store.begin() as session:
        latest = (
            select(Proposal.version)
            .join(Task, Task.id == Proposal.task_id)
            .where(Task.project_id == project.id, Proposal.shown)
            .order_by(Proposal.id.desc())
            .limit(1)
        )
        version = session.scalar(latest)
    if version is not None:
        show_predictions(backend.label_studio, project.label_studio_id, version)


def _changed(
    backend: Backend, project: Project, masks: ProposedMasks, open_: set[int]
) -> dict[int, tuple[Task, Offer]]:
    """What is proposed now and was not before, by the task's id in Label Studio."""
    with backend.store.begin() as session:
        champion = champion_of(session, project.dataset_id)
        tasks = session.execute(
            select(Task, Round.number)
            .join(Round, Round.id == Task.round_id)
            .where(Task.project_id == project.id, ~Task.deleted, Task.purpose == Purpose.ASKED.value)
            .order_by(Round.number.desc(), Task.rank)
        ).all()
        waiting = [(task, number) for task, number in tasks if task.label_studio_id in open_]
        before = {task.id: latest_proposal(session, task.id) for task, _ in waiting}
    if champion is None:
        return {}
    offer_of = offers_of(backend, masks, policy_of(project.dataset), champion.name)
    changed = {}
    for task, number in waiting:
        offer = offer_of(task.sample, number)
        if offer is not None and not stands(before[task.id], offer):
            changed[task.label_studio_id] = task, offer
    return changed


def _put(
    backend: Backend,
    project: Project,
    mapping: ProjectMapping,
    changed: Mapping[int, tuple[Task, Offer]],
    listed: Mapping[int, Mapping[str, Any]],
) -> None:
    with backend.store.begin() as session:
        versions = set(session.scalars(select(Version.name).where(Version.dataset_id == project.dataset_id)))
    without = {number for number in changed if not listed[number]["total_predictions"]}
    wanted = {
        number: prediction_of(backend, mapping, task.sample, offer)
        for number, (task, offer) in changed.items()
        if offer.shown or number not in without
    }
    for number in put_predictions(
        backend.label_studio, project.label_studio_id, wanted, without=without, versions=versions
    ):
        _keep(backend, *changed[number])
    for number in changed.keys() - wanted.keys():
        _keep(backend, *changed[number])


def _keep(backend: Backend, task: Task, offer: Offer) -> None:
    with backend.store.begin() as session:
        keep_offer(session, task, offer)
