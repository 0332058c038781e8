"""An existing project of Label Studio: connected with a dataset, and let go again as it was."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from imil_backend.config import SECRET_HEADER
from imil_backend.errors import (
    AmbiguousConfigError,
    LabelConfigError,
    LabelStudioAuthError,
    NotFoundError,
    RoundError,
)
from imil_backend.label_studio.calls import Call, Calls
from imil_backend.label_studio.config_change import completed_config, difference
from imil_backend.label_studio.config_map import ProjectMapping, read_label_config
from imil_backend.label_studio.storages import missing_storages
from imil_backend.label_studio.webhooks import (
    ACTIONS,
    Change,
    basic_auth_of,
    ensure_ml_backend,
    ensure_webhook,
    remove_ml_backend,
    remove_webhook,
    webhook_url,
)
from imil_backend.loop.backend import Backend, find_project, project_of
from imil_backend.store.database import hold
from imil_backend.store.tables import Dataset, Project, Task, Version, now

ML_BACKEND_TITLE = "imil"


@dataclass
class Changes:
    """What connecting did, or would do.

    Attributes:
        mapping: what the labeling config means, with the change if it is made.
        difference: what the config lacks, as a unified diff; empty if nothing.
        calls: the requests that change something, in order.
        record: what `disconnect_project` takes back.
        by_hand: what somebody must enter in Label Studio: what the token may not, storages with credentials.
    """

    mapping: ProjectMapping
    difference: str
    calls: list[Call]
    record: dict[str, Any] = field(default_factory=dict)
    by_hand: list[str] = field(default_factory=list)


def connect_project(
    backend: Backend,
    dataset: Dataset,
    number: int,
    meanings: dict[str, Any],
    *,
    predictions: bool = False,
    write: bool = False,
    rehearsal: bool = False,
) -> Changes:
    """Connect a dataset with an existing project: its webhook, and no setting of its own unless asked for.

    Args:
        backend: the store and Label Studio.
        dataset: whose tasks are to be answered there.
        number: the project's id.
        meanings: `image`, `irrelevant`, `relevant` and `class_choices` of `read_label_config`; kept with the
            project.
        predictions: register the ML backend too. Label Studio then pre-fills tasks, writes predictions and
            sets the project's model_version.
        write: add to the labeling config what it lacks.
        rehearsal: change nothing, neither here nor there.

    Raises:
        LabelConfigError: the config cannot be used as it is; the message has the smallest change.
        AmbiguousConfigError: `meanings` must say more.
        RoundError: the project or the dataset is taken.
        LabelStudioError: Label Studio cannot be reached or refuses.
    """
    there = backend.label_studio.project(number)
    with backend.store.begin() as session:
        kept = _check_free(backend, session, dataset, number)
    if kept is not None:
        meanings = {**(kept.meanings or {}), **meanings}
    if predictions or "class_choices" in meanings:
        meanings = _with_class(str(there["label_config"]), dataset.classes, meanings)

    def change(*, rehearsal: bool) -> Changes:
        calls = Calls(backend.label_studio, rehearsal=rehearsal)
        changes = _change(backend, calls, there, meanings, predictions=predictions, write=write)
        changes.by_hand += _storages_to_add(backend, dataset, number)
        return changes

    planned = change(rehearsal=True)
    if rehearsal:
        return planned
    # Noted before anything is sent: whatever happens then can be taken back.
    with backend.store.begin() as session:
        project = find_project(session, backend.settings.label_studio_url, number)
        if project is None:
            project = Project(
                dataset_id=dataset.id, instance=backend.settings.label_studio_url, number=number
            )
            session.add(project)
        project.meanings = meanings
        project.connected = planned.record | (project.connected or {})
        project.disconnected_at = None
    return change(rehearsal=False)


def _with_class(xml: str, classes: list[str], meanings: dict[str, Any]) -> dict[str, Any]:
    """The meanings, with the Choices that predictions are to fill in where there is one."""
    mapping = read_label_config(xml, **meanings, classes=classes, complete=False)
    named, there_are = meanings.get("class_choices"), mapping.class_candidates
    if named in there_are or (named is None and not there_are):
        return meanings
    if named is None and len(there_are) == 1:
        return {**meanings, "class_choices": there_are[0]}
    found = f"No Choices {named!r} holds" if named else "Several Choices hold"
    raise AmbiguousConfigError(
        f"{found} the classes {', '.join(classes)}. --class-choices names the one that predictions fill in: "
        f"{', '.join(there_are) or 'there is none'}.",
        "class_choices",
        there_are,
    )


def _storages_to_add(backend: Backend, dataset: Dataset, number: int) -> list[str]:
    """Where the images lie in storages of the project that they were imported from."""
    url, source = backend.settings.label_studio_url, dataset.source_project
    if source is None or source == number or dataset.source_instance != url:
        return []
    return [
        f"Images may lie in a storage of project {source} that project {number} lacks. Add it, with its "
        f"credentials, in Settings > Cloud Storage of project {number}, and do not sync it: {storage}."
        for storage in missing_storages(backend.label_studio, source, number)
    ]


def _check_free(backend: Backend, session: Session, dataset: Dataset, number: int) -> Project | None:
    taken = find_project(session, backend.settings.label_studio_url, number)
    if taken is not None and taken.dataset_id != dataset.id:
        raise RoundError(f"Label Studio's project {number} belongs to dataset {taken.dataset.name!r}.")
    own = project_of(session, dataset.id)
    if taken is None and own is not None:
        raise RoundError(f"Dataset {dataset.name!r} is in project {own.number} of {own.instance} already.")
    if taken is not None and taken.connected is None:
        raise RoundError(f"`imil push` made project {number}; it needs no connection.")
    return taken


def _change(
    backend: Backend,
    calls: Calls,
    there: dict[str, Any],
    meanings: dict[str, Any],
    *,
    predictions: bool,
    write: bool,
) -> Changes:
    number, xml = int(there["id"]), str(there["label_config"])
    mapping = read_label_config(xml, **meanings, complete=False)
    named = [*meanings.get("irrelevant", ()), *meanings.get("relevant", ())]
    if named and not mapping.paints:
        there_are = ", ".join(sorted(mapping.labels.other)) or "none"
        raise LabelConfigError(
            f"Project {number} has no label {' or '.join(named)} to paint with. Its labels: {there_are}."
        )
    wanted = completed_config(xml, mapping)
    changes = Changes(mapping, difference(xml, wanted), calls.made)
    if changes.difference and write:
        calls.request("PATCH", f"/api/projects/{number}/", body={"label_config": wanted})
        changes.mapping = read_label_config(wanted, **meanings)
        changes.record["label_config"] = {"before": xml, "after": wanted}
    elif not mapping.paints:
        labels = sorted(mapping.labels.other)
        naming = f"Name {', '.join(labels)} with --irrelevant or --relevant, or let" if labels else "Let"
        raise AmbiguousConfigError(
            f"The labeling config of project {number} has no label that means irrelevant or relevant. "
            f"{naming} --write make this change:\n{changes.difference}",
            "irrelevant",
            labels,
            several=True,
        )
    _register(backend, calls, there, changes, predictions=predictions)
    return changes


def _register(
    backend: Backend, calls: Calls, there: dict[str, Any], changes: Changes, *, predictions: bool
) -> None:
    number, url = int(there["id"]), backend.settings.own_url
    current, *former = backend.webhook_secrets()
    try:
        if ensure_webhook(calls, number, url, current, former=former) is Change.CREATED:
            changes.record["webhook"] = True
    except LabelStudioAuthError as error:
        changes.by_hand.append(
            f"{error}\nLet an administrator add, in the project's Settings > Webhooks: "
            f"URL {webhook_url(url)}, header {SECRET_HEADER} with the secret of IMIL_WEBHOOK_SECRETS, "
            "payload on, and the events " + ", ".join(ACTIONS) + "."
        )
    if not predictions:
        return
    auth = basic_auth_of(backend.settings)
    try:
        if ensure_ml_backend(calls, number, url, ML_BACKEND_TITLE, auth) is Change.CREATED:
            changes.record["ml_backend"] = {"model_version": there.get("model_version") or ""}
    except LabelStudioAuthError as error:
        changes.by_hand.append(
            f"{error}\nLet an administrator add, in the project's Settings > Model: name {ML_BACKEND_TITLE}, "
            f"URL {url}" + (", Basic auth as in IMIL_BASIC_AUTH_USER and _PASSWORD." if auth else ".")
        )


@dataclass
class TakenBack:
    """What disconnecting did, or would do; `left` says what stays, and why."""

    calls: list[Call]
    left: list[str] = field(default_factory=list)


def disconnect_project(backend: Backend, project: Project, *, rehearsal: bool = False) -> TakenBack:
    """Take back what connecting changed in Label Studio, and nothing else. Answers and masks stay here.

    Raises:
        RoundError: the project was not connected, but made by `imil push`.
        LabelStudioError: Label Studio cannot be reached or refuses.
    """
    if project.connected is None:
        raise RoundError(f"Project {project.number} was not connected, but made by `imil push`.")
    calls = Calls(backend.label_studio, rehearsal=rehearsal)
    taken_back = TakenBack(calls.made)
    if not rehearsal:
        # First, so that no reconciliation puts the webhook back.
        with backend.store.begin() as session:
            hold(session, project)
            session.get_one(Project, project.id).disconnected_at = now()
    try:
        there = backend.label_studio.project(project.number)
    except NotFoundError:
        taken_back.left.append("Label Studio has the project no longer.")
    else:
        _take_back(backend, calls, project, there, taken_back.left)
    if not rehearsal:
        _forget(backend, project)
    return taken_back


def _take_back(
    backend: Backend, calls: Calls, project: Project, there: dict[str, Any], left: list[str]
) -> None:
    record, number, url = project.connected or {}, project.number, backend.settings.own_url
    if "ml_backend" in record:
        remove_ml_backend(calls, number, url)
        _give_back_model_version(backend, calls, project, there, left)
    if "webhook" in record:
        remove_webhook(calls, number, url, backend.webhook_secrets())
    if change := record.get("label_config"):
        if there["label_config"] != change["after"]:
            left.append("The labeling config was changed since; it stays as it is.")
        elif _used(backend, number, change):
            left.append("Somebody annotated with what was added to the labeling config; it stays.")
        else:
            calls.request("PATCH", f"/api/projects/{number}/", body={"label_config": change["before"]})


def _give_back_model_version(
    backend: Backend, calls: Calls, project: Project, there: dict[str, Any], left: list[str]
) -> None:
    before = (project.connected or {})["ml_backend"]["model_version"]
    with backend.store.begin() as session:
        versions = session.scalars(select(Version.name).where(Version.dataset_id == project.dataset_id))
        ours = {ML_BACKEND_TITLE, *versions}
    if there.get("model_version") in ours:
        calls.request("PATCH", f"/api/projects/{project.number}/", body={"model_version": before})
    elif (there.get("model_version") or "") != before:
        left.append(f"The model version was changed to {there['model_version']!r} since; it stays.")


def _used(backend: Backend, number: int, change: dict[str, str]) -> bool:
    """Whether an annotation or a draft has a region or choice of a tag that was added."""
    added = _names(change["after"]) - _names(change["before"])
    summary = backend.label_studio.request("GET", f"/api/projects/{number}/summary/")
    kinds = [*(summary.get("created_annotations") or {}), *(summary.get("created_labels_drafts") or {})]
    return any(kind.split("|")[0] in added for kind in kinds)


def _names(xml: str) -> set[str | None]:
    return {tag.get("name") for tag in ElementTree.fromstring(xml).iter()}  # noqa: S314 - read before


def _forget(backend: Backend, project: Project) -> None:
    """Of a project in which nothing was asked, nothing need be kept."""
    with backend.store.begin() as session:
        row = session.get_one(Project, project.id)
        if session.scalar(select(func.count(Task.id)).where(Task.project_id == project.id)):
            row.connected = {}
        else:
            session.delete(row)
