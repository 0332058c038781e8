"""Disconnects a project, which is then as it was before."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

from sqlalchemy import func, select

from imil_backend.errors import NotFoundError, RoundError
from imil_backend.label_studio.api.calls import Call, Calls
from imil_backend.label_studio.api.storages import remove_storages
from imil_backend.label_studio.api.tabs import remove_tabs
from imil_backend.label_studio.api.webhooks import remove_ml_backend, remove_webhook
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.projects.existing import ML_BACKEND_TITLE
from imil_backend.store.database import lock_row
from imil_backend.store.tables import Project, Task, Version, now


@dataclass
class TakenBack:
    """What disconnecting did, or would do; `left` says what stays, and why."""

    calls: list[Call]
    left: list[str] = field(default_factory=list)


def disconnect_project(backend: Backend, project: Project, *, rehearsal: bool = False) -> TakenBack:
    """Undo what connecting changed in Label Studio, and nothing else. Answers and masks stay here.

    Raises:
        RoundError: the project was not connected, but created by `imil push`.
        LabelStudioError: Label Studio cannot be reached or refuses.
    """
    if project.connected is None:
        raise RoundError(
            f"Project {project.label_studio_id} was not connected, but created by `imil push`. "
            "Delete it in Label Studio."
        )
    calls = Calls(backend.label_studio, rehearsal=rehearsal)
    taken_back = TakenBack(calls.made)
    if not rehearsal:
        # First, so that no reconciliation puts the webhook back.
        with backend.store.begin() as session:
            lock_row(session, project)
            session.get_one(Project, project.id).disconnected_at = now()
    try:
        there = backend.label_studio.project(project.label_studio_id)
    except NotFoundError:
        taken_back.left.append("The project no longer exists in Label Studio.")
    else:
        _take_back(backend, calls, project, there, taken_back.left)
    if not rehearsal:
        _forget(backend, project)
    return taken_back


def _take_back(
    backend: Backend, calls: Calls, project: Project, there: dict[str, Any], left: list[str]
) -> None:
    record, number, url = project.connected or {}, project.label_studio_id, backend.settings.own_url
    if "ml_backend" in record:
        remove_ml_backend(calls, number, url)
        _give_back_model_version(backend, calls, project, there, left)
    asked = _has_tasks(backend, project)
    for each in record.get("storages", []):
        if asked:
            left.append(f"The {each['kind']} storage that was added stays, because the pushed tasks need it.")
        else:
            remove_storages(calls, number, each["kind"], each["place"])
    if "webhook" in record:
        remove_webhook(calls, number, url, backend.webhook_secrets)
    if "tab" in record:
        remove_tabs(calls, number)
    if "empty_annotations" in record and not there["enable_empty_annotation"]:
        body = {"enable_empty_annotation": True}
        calls.request("PATCH", f"/api/projects/{number}/", body=body)
    if change := record.get("label_config"):
        if there["label_config"] != change["after"]:
            left.append("The labeling config has been changed since; it stays as it is.")
        elif _used(backend, number, change):
            left.append("The labeling config stays: somebody has annotated with what was added.")
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
        calls.request("PATCH", f"/api/projects/{project.label_studio_id}/", body={"model_version": before})
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
    asked = _has_tasks(backend, project)
    with backend.store.begin() as session:
        row = session.get_one(Project, project.id)
        if asked:
            row.connected = {}
        else:
            session.delete(row)


def _has_tasks(backend: Backend, project: Project) -> bool:
    with backend.store.begin() as session:
        return bool(session.scalar(select(func.count(Task.id)).where(Task.project_id == project.id)))
