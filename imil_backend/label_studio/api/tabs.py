"""Our tabs of a project's Data Manager: *Please look again* and *To review*."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from imil_backend.label_studio.api.calls import Requests
from imil_backend.label_studio.labeling.task_data import (
    EVIDENCE_KEY,
    EVIDENCE_SAYS_KEY,
    PROBLEM_KEY,
    REVIEW_KEY,
    SAMPLE_KEY,
    SHOWN_KEYS,
)

_VIEWS = "/api/dm/views/"
_BESIDE_EDITOR = [f"tasks:{name}" for name in ("annotators", "completed_at", "data.label", "data.predicted")]
_ALL_TASKS = {"title": "Default"}
_NOT_ANSWERED = {
    "filter": "filter:tasks:total_annotations",
    "operator": "equal",
    "type": "Number",
    "value": 0,
}


@dataclass(frozen=True)
class Tab:
    """A tab that lists the tasks whose data says something under a key."""

    key: str
    open_only: bool = False  # those that nobody has answered

    @property
    def filter(self) -> dict[str, Any]:
        """That the key is there and not empty."""
        return {
            "filter": f"filter:tasks:data.{self.key}",
            "operator": "not_equal",
            "type": "String",
            "value": "",
        }


PROBLEM_TAB = Tab(PROBLEM_KEY)  # tasks with an answer that does not count
REVIEW_TAB = Tab(REVIEW_KEY, open_only=True)
_TABS = (PROBLEM_TAB, REVIEW_TAB)


def ensure_tab(client: Requests, project_id: int, title: str, image_key: str, tab: Tab = PROBLEM_TAB) -> bool:
    """Make sure that a project has a tab of ours.

    Args:
        client: of a user who may change the project.
        project_id: of Label Studio.
        title: in the clinician's language.
        image_key: of a task's data.
        tab: which.

    Returns:
        Whether it was made.
    """
    tabs = client.request("GET", _VIEWS, params={"project": project_id})
    if any(_is(each, tab) for each in tabs):
        return False
    if not tabs:  # Label Studio makes the one that shows all tasks only where there is no tab at all
        client.request("POST", _VIEWS, body={"project": project_id, "data": _ALL_TASKS})
    columns = client.request("GET", "/api/dm/columns", params={"project": project_id})["columns"]
    shown = {
        "id",
        "annotators",
        "completed_at",
        *(f"data.{key}" for key in (image_key, tab.key, "label", "predicted")),
    }
    names = {f"{each['parent']}.{each['id']}" if each.get("parent") else each["id"] for each in columns}
    will_be = (*SHOWN_KEYS, REVIEW_KEY, SAMPLE_KEY, EVIDENCE_KEY, EVIDENCE_SAYS_KEY)
    names |= {f"data.{key}" for key in will_be}
    hidden = [f"tasks:{name}" for name in sorted(names - shown)]
    data = {
        "title": title,
        "type": "list",
        "target": "tasks",
        "hiddenColumns": {"explore": hidden, "labeling": [*hidden, *_BESIDE_EDITOR]},
        "columnsWidth": {f"tasks:data.{tab.key}": 480},
        "filters": {"conjunction": "and", "items": [tab.filter, *([_NOT_ANSWERED] if tab.open_only else [])]},
    }
    client.request("POST", _VIEWS, body={"project": project_id, "data": data})
    return True


def remove_tabs(client: Requests, project_id: int) -> None:
    """Remove our tabs from a project, and the one of all tasks that was made with them if nobody used it."""
    for there in client.request("GET", _VIEWS, params={"project": project_id}):
        if any(_is(there, tab) for tab in _TABS) or there.get("data") == _ALL_TASKS:
            client.request("DELETE", f"{_VIEWS}{there['id']}/")


def _is(there: dict[str, Any], tab: Tab) -> bool:
    """Known by what it filters, for its title may be changed."""
    filters = ((there.get("data") or {}).get("filters") or {}).get("items") or []
    return any(each.get("filter") == tab.filter["filter"] for each in filters)
