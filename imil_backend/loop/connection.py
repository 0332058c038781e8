"""The Label Studio project of a dataset: made or taken, with our webhook and our ML backend in it."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from sqlalchemy.orm import Session

from imil_backend.errors import LabelConfigError, LabelStudioError, RoundError
from imil_backend.label_studio.config_map import load_label_config, read_label_config
from imil_backend.label_studio.webhooks import BasicAuth, Change, ensure_ml_backend, ensure_webhook
from imil_backend.loop.backend import Backend, find_project, project_of
from imil_backend.loop.sync import check_instance
from imil_backend.store.tables import Dataset, Project

logger = logging.getLogger(__name__)

INSTRUCTIONS = """
<p>The model got these images wrong while it learned. Often that is because it looked at something that has
nothing to do with the diagnosis: a marker, a tube, the edge of the film.</p>
<ol>
<li><b>Paint over what is irrelevant to the diagnosis</b> with the brush <i>Irrelevant</i>. What you paint is
blacked out, and the model learns again without it. Where it is less work, paint what matters with
<i>Relevant</i> instead: then everything else is blacked out.</li>
<li>Is there nothing to paint? Choose <i>Nothing to black out</i>, <i>The label is wrong</i> or
<i>Unreadable</i>.</li>
<li>Press <b>Submit</b>. You can change your answer later; the next round takes it in.</li>
</ol>
<p>The most instructive images come first. The originals are never changed.</p>
""".strip()


@dataclass(frozen=True)
class Connection:
    """A project and what was done to its registrations."""

    project: Project
    created: bool
    webhook: Change
    ml_backend: Change | None  # None: it could not be registered; `problem` says why
    problem: str | None = None


def connect(backend: Backend, dataset: Dataset, project_number: int | None = None) -> Connection:
    """Make sure that a dataset has its project with the webhook and, after it, the ML backend.

    Args:
        backend: with the address and the secret that Label Studio is given.
        dataset: whose tasks are to be answered there.
        project_number: an existing project to take; without it one is made.

    Raises:
        LabelStudioError: Label Studio refused, or the project's labeling config has nothing to paint with.
        RoundError: the project or the dataset is taken.
    """
    project, created = _project(backend, dataset, project_number)
    secret = backend.webhook_secrets()[0]
    webhook = ensure_webhook(backend.label_studio, project.number, backend.settings.own_url, secret)
    try:
        ml_backend = ensure_ml_backend(
            backend.label_studio, project.number, backend.settings.own_url, "imil", _basic_auth(backend)
        )
    except LabelStudioError as error:
        # Label Studio asks the backend when it is registered; tasks can be pushed and answered without.
        return Connection(project, created, webhook, None, str(error))
    return Connection(project, created, webhook, ml_backend)


def _project(backend: Backend, dataset: Dataset, number: int | None) -> tuple[Project, bool]:
    with backend.store.begin() as session:
        project = project_of(session, dataset.id)
    if project is not None:
        check_instance(backend, project)
        if number not in {None, project.number}:
            raise RoundError(f"Dataset {dataset.name!r} is in project {project.number} already.")
        return project, False
    created = number is None
    if number is None:
        number = backend.label_studio.create_project(
            f"IMIL: {dataset.name}"[:50], load_label_config("blackout"), INSTRUCTIONS
        )
    elif not read_label_config(backend.label_studio.project(number)["label_config"]).paints:
        raise LabelConfigError(
            f"The labeling config of project {number} has nothing to paint with. Take that of "
            "label_config/blackout.xml, or let `imil push` make a project."
        )
    with backend.store.begin() as session:
        return _keep(backend, session, dataset, number), created


def _keep(backend: Backend, session: Session, dataset: Dataset, number: int) -> Project:
    instance = backend.settings.label_studio_url
    if taken := find_project(session, instance, number):
        raise RoundError(f"Label Studio's project {number} belongs to dataset {taken.dataset.name!r}.")
    project = Project(dataset_id=dataset.id, instance=instance, number=number)
    session.add(project)
    session.flush()
    return project


def _basic_auth(backend: Backend) -> BasicAuth | None:
    settings = backend.settings
    if settings.basic_auth_user is None or settings.basic_auth_password is None:
        return None
    return BasicAuth(settings.basic_auth_user, settings.basic_auth_password.get_secret_value())
