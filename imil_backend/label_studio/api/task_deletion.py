"""Deletes tasks in Label Studio, with their annotations and the images that were uploaded for them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from imil_backend.label_studio.api.client import LabelStudio
from imil_backend.label_studio.labeling.task_data import sample_key_of

_UPLOADED = "/data/"  # and the name of the upload, in a task's data


@dataclass(frozen=True)
class DeletedTasks:
    """What was deleted.

    Attributes:
        tasks: how many.
        uploads: names of their uploaded files: Label Studio serves them no more, and leaves them on its disk.
    """

    tasks: int
    uploads: tuple[str, ...]


def delete_tasks_of(client: LabelStudio, project_id: int, keys: Collection[str]) -> DeletedTasks:
    """Delete all tasks of a project that carry one of these samples' keys. Idempotent.

    The uploads go before their task, by which they are found.

    Args:
        client: of a user who may change the project.
        project_id: of Label Studio.
        keys: of samples.
    """
    tasks = [task for task in client.tasks(project_id) if sample_key_of(task) in keys]
    if not tasks:
        return DeletedTasks(0, ())
    path = f"/api/projects/{project_id}/file-uploads"
    uploads = {
        str(each["file"]): int(each["id"]) for each in client.request("GET", path, params={"all": "true"})
    }
    named = {name for task in tasks for name in _uploads_of(task)}
    there = sorted(uploads[name] for name in named & uploads.keys())
    if there:
        client.request("DELETE", path, body={"file_upload_ids": there})
    for task in tasks:
        client.request("DELETE", f"/api/tasks/{int(task['id'])}/")
    return DeletedTasks(len(tasks), tuple(sorted(named)))


def _uploads_of(task: dict[str, Any]) -> list[str]:
    """The names of uploads in a task's data, without the sub-path that Label Studio may be under."""
    texts = [value for value in task["data"].values() if isinstance(value, str)]
    return [
        text.partition(_UPLOADED)[2] for text in texts if f"{_UPLOADED}upload/" in text and len(text) < 2000
    ]
