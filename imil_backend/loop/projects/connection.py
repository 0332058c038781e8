"""The Label Studio project of a dataset: created or existing, with our webhook and our ML backend."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.errors import LabelConfigError, LabelStudioError, RoundError
from imil_backend.label_studio.api.tabs import ensure_tab
from imil_backend.label_studio.api.webhooks import Change, basic_auth_of, ensure_ml_backend, ensure_webhook
from imil_backend.label_studio.labeling.label_config import load_label_config
from imil_backend.label_studio.labeling.words import words_of
from imil_backend.loop.base.backend import Backend, find_project, project_of
from imil_backend.loop.base.policy import policy_of
from imil_backend.loop.projects.existing import ML_BACKEND_TITLE, connect_project
from imil_backend.loop.projects.guide import keep_page, shows_evidence
from imil_backend.loop.projects.mapping import check_instance
from imil_backend.store.tables import Dataset, Project

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Connection:
    """A project, and what was done to its registrations."""

    project: Project
    created: bool
    webhook: Change
    ml_backend: Change | None  # None: it is not wanted, or could not be registered and `problem` says why
    problem: str | None = None


def connect(backend: Backend, dataset: Dataset, project_number: int | None = None) -> Connection:
    """Make sure that a dataset has its project with the webhook and, after it, the ML backend.

    A project that was there before gets the ML backend only if it was connected so.

    Args:
        backend: with the address and the secret that Label Studio is given.
        dataset: whose tasks are to be answered there.
        project_number: an existing project, which is connected first; without it one is made.

    Raises:
        LabelStudioError: Label Studio refused, or the project's labeling config has nothing to paint with.
        RoundError: the project or the dataset is taken.
    """
    project, created = _project(backend, dataset, project_number)
    if project.disconnected_at is not None:
        raise RoundError(
            f"Project {project.label_studio_id} was disconnected. Connect it again: `imil connect --project "
            f"{project.label_studio_id}`."
        )
    if project.connected is None:
        language = policy_of(dataset).language
        keep_page(backend.label_studio, project.label_studio_id, language, dataset.classes)
        ensure_tab(backend.label_studio, project.label_studio_id, words_of(language)["look_again"], "image")
    secret = backend.webhook_secrets[0]
    webhook = ensure_webhook(backend.label_studio, project.label_studio_id, backend.settings.own_url, secret)
    if not takes_predictions(project):
        return Connection(project, created, webhook, None)
    auth = basic_auth_of(backend.settings)
    try:
        ml_backend = ensure_ml_backend(
            backend.label_studio, project.label_studio_id, backend.settings.own_url, ML_BACKEND_TITLE, auth
        )
    except LabelStudioError as error:
        # Label Studio asks the backend when it is registered; tasks can be pushed and answered without.
        return Connection(project, created, webhook, None, str(error))
    return Connection(project, created, webhook, ml_backend)


def takes_predictions(project: Project) -> bool:
    """Whether the ML backend is registered there: in projects of our own, else only where that was wished."""
    return project.connected is None or "ml_backend" in project.connected


def _project(backend: Backend, dataset: Dataset, number: int | None) -> tuple[Project, bool]:
    with backend.store.begin() as session:
        project = project_of(session, dataset.id)
    if project is not None:
        check_instance(backend, project)
        if number not in {None, project.label_studio_id}:
            raise RoundError(
                f"Dataset {dataset.name!r} already uses project {project.label_studio_id}. Omit --project."
            )
        return project, False
    if number is not None:
        try:
            connect_project(backend, dataset, number, {})
        except LabelConfigError as error:
            raise LabelConfigError(f"{error}\nConnect it first: `imil connect --project {number}`.") from None
        with backend.store.begin() as session:
            return session.scalars(select(Project).where(Project.dataset_id == dataset.id)).one(), False
    evidence = shows_evidence(backend.label_studio.version())
    config = load_label_config("blackout", policy_of(dataset).language, dataset.classes, evidence=evidence)
    number = backend.label_studio.create_project(
        f"IMIL: {dataset.name}"[:50],
        config,
        "",
        predictions=False,  # in a brush project they show nothing until masks are proposed
    )
    with backend.store.begin() as session:
        return _keep(backend, session, dataset, number), True


def _keep(backend: Backend, session: Session, dataset: Dataset, number: int) -> Project:
    instance = backend.settings.label_studio_url
    if taken := find_project(session, instance, number):
        raise RoundError(
            f"Label Studio's project {number} belongs to dataset {taken.dataset.name!r}. Choose "
            "another one with --project, or omit it to create one."
        )
    project = Project(dataset_id=dataset.id, instance=instance, label_studio_id=number)
    session.add(project)
    session.flush()
    return project
