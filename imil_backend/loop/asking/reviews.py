"""Reviews: answers in dispute are put to somebody else, whose answer stands for them.

The free Label Studio has no reviewers. A review is a second task of the same image in the same project. It
counts as done there from the beginning, so that no reader's label stream serves it, and the tab *To review*
lists it. On its page nobody sees the answers that are in dispute.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from imil_backend.errors import RoundError
from imil_backend.label_studio.api.predictions import show_predictions
from imil_backend.label_studio.api.tabs import REVIEW_TAB, ensure_tab
from imil_backend.label_studio.api.task_overlap import keep_from_label_stream
from imil_backend.label_studio.labeling.label_config import ProjectMapping
from imil_backend.label_studio.labeling.task_data import PROBLEM_KEY, REVIEW_KEY, ROUND_KEY, sample_key_of
from imil_backend.label_studio.labeling.words import words_of
from imil_backend.loop.answers.notes import answer_in_words
from imil_backend.loop.answers.sample_states import sample_states, standing_answers
from imil_backend.loop.asking.disputes import Dispute, disputes_of
from imil_backend.loop.base import audit
from imil_backend.loop.base.backend import Backend, project_of
from imil_backend.loop.base.locks import locked, wait_for_erasures
from imil_backend.loop.base.policy import Policy, policy_of
from imil_backend.loop.base.states import Purpose
from imil_backend.loop.projects.mapping import mapping_of, shows_something
from imil_backend.loop.projects.readers import is_a_teams
from imil_backend.loop.proposals.offers import Offer, can_be_shown, keep_offer, prediction_of
from imil_backend.loop.versions.champions import champion_of
from imil_backend.store.tables import Dataset, Project, Task

AT_ONCE = 25  # tasks in a request
SOURCE = "answers in dispute"  # of what is pre-filled


def push_reviews(
    backend: Backend, dataset: Dataset, progress: Callable[[int, int], None] | None = None
) -> int:
    """Put a dataset's answers in dispute to a reviewer. Idempotent; an interrupted push resumes.

    Args:
        backend: the store and Label Studio.
        dataset: whose answers, by the bound and the way of its policy.
        progress: called with the number of reviews done, and of all.

    Returns:
        How many reviews were asked now.

    Raises:
        LabelStudioError: Label Studio cannot be reached or refuses.
        RoundError: there is no project, or it was disconnected.
    """
    with locked(backend, "review", dataset.id):
        wait_for_erasures(backend)
        with backend.store.begin() as session:
            project = reviewed_project(session, dataset)
            policy = policy_of(session.get_one(Dataset, dataset.id))
            disputes = disputes_of(
                session, dataset, policy.review_below, standing_answers(session, dataset.id)
            )
        if not disputes:
            return 0
        mapping = mapping_of(backend, project)
        title = words_of(policy.language)["to_review"]
        if ensure_tab(backend.label_studio, project.label_studio_id, title, mapping.image_key, REVIEW_TAB):
            _note_tab(backend, project)
        count = 0
        for done in range(0, len(disputes), AT_ONCE):
            count += _push(backend, project, mapping, policy, disputes[done : done + AT_ONCE])
            if progress:
                progress(min(done + AT_ONCE, len(disputes)), len(disputes))
        return count


def reviewed_project(session: Session, dataset: Dataset) -> Project:
    """The project that a dataset's reviews are asked in.

    Raises:
        RoundError: there is none, Label Studio has it no longer, or it was disconnected.
    """
    project = project_of(session, dataset.id)
    if project is None or project.gone_at is not None:
        raise RoundError(f"Dataset {dataset.name!r} has no project in which anything was answered.")
    if project.disconnected_at is not None:
        raise RoundError(
            f"Project {project.label_studio_id} was disconnected. Connect it again: `imil connect --project "
            f"{project.label_studio_id}`."
        )
    return project


def _push(
    backend: Backend, project: Project, mapping: ProjectMapping, policy: Policy, disputes: Sequence[Dispute]
) -> int:
    """Push some reviews; how many are there now, since a task may have been deleted meanwhile."""
    client, number = backend.label_studio, project.label_studio_id
    there = {_names(task): int(task["id"]) for task in client.tasks(number) if task["data"].get(REVIEW_KEY)}
    asked = {int(task["id"]): task for task in client.named_tasks(number, _numbers(disputes))}
    offers = {} if policy.blind_review else _offers(backend, project, mapping, disputes)
    new: list[tuple[Dispute, dict[str, Any]]] = []
    known = 0
    for dispute in disputes:
        task = asked.get(dispute.task.label_studio_id)
        if task is None:
            continue  # it was deleted a moment ago
        if _names(task) in there:  # pushed by a call that was interrupted
            _keep(backend, project, dispute, there[_names(task)], offers.get(dispute.task.id))
            known += 1
            continue
        offer = offers.get(dispute.task.id)
        shown = None if offer is None or shows_something(mapping) else offer
        predictions = [prediction_of(backend, mapping, dispute.task.sample, shown)] if shown else []
        new.append((dispute, {"data": _data(policy, dispute, task), "predictions": predictions}))
    if new:
        made = client.import_tasks(number, [task for _, task in new])
        for (dispute, _), task_id in zip(new, made, strict=True):
            _keep(backend, project, dispute, task_id, offers.get(dispute.task.id))
    if offers and not shows_something(mapping) and not is_a_teams(project):
        show_predictions(client, number, next(iter(offers.values())).version)
    return known + len(new)


def _note_tab(backend: Backend, project: Project) -> None:
    """A team's project gives the tab back when it is disconnected."""
    with backend.store.begin() as session:
        row = session.get_one(Project, project.id)
        if row.connected is not None:
            row.connected = {**row.connected, "tab": True}


def _numbers(disputes: Sequence[Dispute]) -> list[int]:
    return [each.task.label_studio_id for each in disputes]


def _names(task: Mapping[str, Any]) -> tuple[str, str]:
    """The sample and the round that a task of Label Studio is of."""
    return sample_key_of(task), str(task["data"].get(ROUND_KEY))


def _offers(
    backend: Backend, project: Project, mapping: ProjectMapping, disputes: Sequence[Dispute]
) -> dict[int, Offer]:
    """What is pre-filled, by the disputed task: the mask that counts as long as nobody decides."""
    if not can_be_shown(project, mapping):
        return {}
    offers = {}
    with backend.store.begin() as session:
        champion = champion_of(session, project.dataset_id)
        for dispute in disputes:
            sample_id = dispute.task.sample_id
            state = sample_states(backend, session, project.dataset, sample_id).get(sample_id)
            if champion is not None and state is not None and state.mask_sha256 is not None:
                offers[dispute.task.id] = Offer(
                    state.mask_sha256, state.outside, 1.0, shown=True, version=champion.name, source=SOURCE
                )
    return offers


def _data(policy: Policy, dispute: Dispute, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The data of the task that was asked, image included, with what is to be decided."""
    words = words_of(policy.language)
    says = words["review_asked"]
    if not policy.blind_review:
        counts = Counter(answer_in_words(policy.language, each.answer) for each in dispute.answers)
        told = ", ".join(f"{answer} ({count})" for answer, count in counts.items())
        says = f"{says} {words['review_so_far'].format(answers=told, task=dispute.task.label_studio_id)}"
    return {**asked["data"], "note": says, REVIEW_KEY: says, PROBLEM_KEY: ""}


def _keep(backend: Backend, project: Project, dispute: Dispute, task_id: int, offer: Offer | None) -> None:
    with backend.store.begin() as session:
        task = Task(
            project_id=project.id,
            round_id=dispute.task.round_id,
            sample_id=dispute.task.sample_id,
            label_studio_id=task_id,
            rank=dispute.task.rank,
            purpose=Purpose.REVIEW.value,
        )
        session.add(task)
        session.flush()
        audit.note_asked(session, task)
        if offer is not None:
            keep_offer(session, task, offer)
    keep_from_label_stream(backend.label_studio, task_id)
