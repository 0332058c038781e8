"""Takes proposed masks that are in the editor away when they are switched off, and puts them back."""

from __future__ import annotations

from dataclasses import fields

from sqlalchemy import select

from imil_backend.label_studio.api.predictions import change_prediction, latest_prediction
from imil_backend.loop.base import audit
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.policy import policy_of
from imil_backend.loop.base.states import Purpose
from imil_backend.loop.projects.mapping import mapping_of, shows_something
from imil_backend.loop.proposals.offers import Offer, can_be_shown, latest_proposal, prediction_of
from imil_backend.store.tables import Project, Proposal, Task, Version


def switch_proposals(backend: Backend, project: Project) -> int:
    """Have tasks that nobody has answered show their proposed masks, or none, as the policy says. Idempotent.

    Predictions are emptied and never deleted: an editor that is open names the one that it shows. What was
    proposed stays noted, so that an answer that began with it is recorded as such.

    Args:
        backend: the store and Label Studio.
        project: which project.

    Returns:
        How many tasks show something else than before.

    Raises:
        LabelStudioError: Label Studio cannot be reached or refuses.
    """
    wished = policy_of(project.dataset).proposals
    with backend.store.begin() as session:
        switched = audit.latest(session, project.dataset_id, audit.PROPOSALS)
        if wished == (switched is None or switched.details["shown"]):
            return 0
        asked = (Task.project_id == project.id, ~Task.deleted, Task.purpose == Purpose.ASKED.value)
        tasks = session.scalars(select(Task).where(*asked, Task.id.in_(select(Proposal.task_id))))
        latest = {task: latest_proposal(session, task.id) for task in tasks}
        versions = set(session.scalars(select(Version.name).where(Version.dataset_id == project.dataset_id)))
    shown = {task.label_studio_id: (task, each) for task, each in latest.items() if each and each.shown}
    if not shown:
        return 0
    mapping = mapping_of(backend, project)
    if not can_be_shown(project, mapping) or shows_something(mapping):
        return 0  # Label Studio asks for them each time
    client = backend.label_studio
    changed = 0
    for listed in list(client.tasks(project.label_studio_id)):
        if listed["id"] not in shown or listed["total_annotations"] or not listed["total_predictions"]:
            continue
        there = latest_prediction(client, listed["id"], versions)
        if there is None or bool(there["result"]) == wished:
            continue
        task, proposal = shown[listed["id"]]
        values = {each.name: getattr(proposal, each.name) for each in fields(Offer)}
        offer = Offer(**{**values, "shown": wished})
        change_prediction(client, int(there["id"]), prediction_of(backend, mapping, task.sample, offer))
        changed += 1
    with backend.store.begin() as session:
        audit.note(session, project.dataset_id, audit.PROPOSALS, shown=wished)
    return changed
