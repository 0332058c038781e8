"""The tab *Please look again* of a project's Data Manager: the tasks whose answers do not count."""

from __future__ import annotations

from typing import Any

from imil_backend.label_studio.api.calls import Requests
from imil_backend.label_studio.labeling.task_data import (
    EVIDENCE_KEY,
    EVIDENCE_SAYS_KEY,
    PROBLEM_KEY,
    SAMPLE_KEY,
    SHOWN_KEYS,
)

_VIEWS = "/api/dm/views/"
_BESIDE_EDITOR = [f"tasks:{name}" for name in ("annotators", "completed_at", "data.label", "data.predicted")]
_ALL_TASKS = {"title": "Default"}
_SHOWN = (PROBLEM_KEY, "label", "predicted")
_HAS_PROBLEM = {
    "filter": f"filter:tasks:data.{PROBLEM_KEY}",
    "operator": "not_equal",
    "type": "String",
    "value": "",
}


def ensure_tab(client: Requests, project_id: int, title: str, image_key: str) -> bool:
    """Make sure that a project has the tab.

    Args:
        client: of a user who may change the project.
        project_id: of Label Studio.
        title: in the clinician's language.
        image_key: of a task's data.

    Returns:
        Whether it was made.
    """
    tabs = client.request("GET", _VIEWS, params={"project": project_id})
    if any(_is_ours(tab) for tab in tabs):
        return False
    if not tabs:  # Label Studio makes the one that shows all tasks only where there is no tab at all
        client.request("POST", _VIEWS, body={"project": project_id, "data": _ALL_TASKS})
    columns = client.request("GET", "/api/dm/columns", params={"project": project_id})["columns"]
    shown = {"id", "annotators", "completed_at", *(f"data.{key}" for key in (image_key, *_SHOWN))}
    names = {f"{each['parent']}.{each['id']}" if each.get("parent") else each["id"] for each in columns}
    will_be = (*SHOWN_KEYS, SAMPLE_KEY, EVIDENCE_KEY, EVIDENCE_SAYS_KEY)
    names |= {f"data.{key}" for key in will_be}
    hidden = [f"tasks:{name}" for name in sorted(names - shown)]
    data = {
        "title": title,
        "type": "list",
        "target": "tasks",
        "hiddenColumns": {"explore": hidden, "labeling": [*hidden, *_BESIDE_EDITOR]},
        "columnsWidth": {f"tasks:data.{PROBLEM_KEY}": 480},
        "filters": {"conjunction": "and", "items": [_HAS_PROBLEM]},
    }
    client.request("POST", _VIEWS, body={"project": project_id, "data": data})
    return True


def remove_tab(client: Requests, project_id: int) -> None:
    """Remove the tab from a project, and the one of all tasks if it was made with it and nobody used it."""
    for tab in client.request("GET", _VIEWS, params={"project": project_id}):
        if _is_ours(tab) or tab.get("data") == _ALL_TASKS:
            client.request("DELETE", f"{_VIEWS}{tab['id']}/")


def _is_ours(tab: dict[str, Any]) -> bool:
    """Known by what it filters, for its title may be changed."""
    filters = ((tab.get("data") or {}).get("filters") or {}).get("items") or []
    return any(each.get("filter") == _HAS_PROBLEM["filter"] for each in filters)
