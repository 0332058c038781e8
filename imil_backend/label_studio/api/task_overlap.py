"""The overlap of tasks: to how many people Label Studio shows each.

Label Studio keeps that number with each task (`overlap`); a new one gets the project's
(`maximum_annotations`). Changing the project's changes the tasks as well, and opens those that were done.
Changing a task's leaves whether it is done (`is_labeled`) as it was, so that this is said with it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from imil_backend.label_studio.api.client import LabelStudio


def set_project_readers(client: LabelStudio, project_id: int, readers: int, tasks: Collection[int]) -> None:
    """Set the overlap of a project's new tasks and of these; other tasks stay as they are.

    Args:
        client: of a user who may change the project.
        project_id: of Label Studio.
        readers: different people.
        tasks: ids of tasks that are there already.
    """
    if client.project(project_id)["maximum_annotations"] != readers:
        others = {task["id"]: task for task in client.tasks(project_id) if task["id"] not in tasks}
        path = f"/api/projects/{project_id}/"
        client.request("PATCH", path, body={"maximum_annotations": readers})
        for task in client.tasks(project_id):
            before = others.get(task["id"])
            if before is not None and _state(task) != _state(before):
                _change(client, task["id"], before["overlap"], is_done=before["is_labeled"])
    set_task_readers(client, project_id, readers, tasks)


def set_task_readers(client: LabelStudio, project_id: int, readers: int, tasks: Collection[int]) -> None:
    """Set the overlap of these tasks; the project's setting and its other tasks stay."""
    for task in client.tasks(project_id):
        if task["id"] in tasks and task["overlap"] != readers:
            _change(client, task["id"], readers, is_done=task["total_annotations"] >= readers)


def keep_from_label_stream(client: LabelStudio, task_id: int) -> None:
    """Have nobody's label stream serve a task, by calling it done. It can be opened in the list."""
    _change(client, task_id, 1, is_done=True)


def _state(task: dict[str, Any]) -> tuple[int, bool]:
    return task["overlap"], task["is_labeled"]


def _change(client: LabelStudio, task_id: int, readers: int, *, is_done: bool) -> None:
    client.request("PATCH", f"/api/tasks/{task_id}/", body={"overlap": readers, "is_labeled": is_done})
