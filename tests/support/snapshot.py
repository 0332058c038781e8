"""All of a Label Studio project's settings, as its API gives them."""

from __future__ import annotations

from typing import Any

from support.label_studio import RunningLabelStudio

STORAGES = ("s3", "gcs", "azure", "redis", "localfiles")


def snapshot(label_studio: RunningLabelStudio, project: int) -> dict[str, Any]:
    """The project, its webhooks, ML backends, storages, views, members and annotations."""
    by_project = {
        "webhooks": "/api/webhooks/",
        "ML backends": "/api/ml/",
        "views": "/api/dm/views/",
        **{f"import from {kind}": f"/api/storages/{kind}/" for kind in STORAGES},
        **{f"export to {kind}": f"/api/storages/export/{kind}/" for kind in STORAGES},
    }
    tasks = label_studio.ask(f"/api/tasks/?project={project}&fields=all&page_size=1000")["tasks"]
    for task in tasks:
        for annotation in task["annotations"]:
            del annotation["created_ago"]  # as in "2 minutes"
    return {
        "project": label_studio.ask(f"/api/projects/{project}/"),
        "summary": label_studio.ask(f"/api/projects/{project}/summary/"),
        "members": label_studio.ask("/api/users/"),
        "tasks": tasks,
        **{name: label_studio.ask(f"{path}?project={project}") for name, path in by_project.items()},
    }


def differing(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """What is not as it was: "webhooks", or "project.label_config" for a field of the project."""
    changed = {name for name in before if before[name] != after[name]} - {"project"}
    fields = before["project"].keys() | after["project"].keys()
    return changed | {
        f"project.{field}" for field in fields if before["project"].get(field) != after["project"].get(field)
    }
