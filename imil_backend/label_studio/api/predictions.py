"""Predictions that Label Studio keeps with tasks, and shows until an annotation is submitted.

One that is there is changed and never deleted: an editor that shows it names it when it submits, and Label
Studio refuses the submission (400) if it is gone by then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from imil_backend.label_studio.api.client import LabelStudio

AT_ONCE = 25  # predictions in a request: brush regions may be large


def put_predictions(
    client: LabelStudio,
    project_id: int,
    wanted: Mapping[int, Mapping[str, Any]],
    *,
    without: Collection[int],
    versions: Collection[str],
) -> Iterator[int]:
    """Have each task show one prediction of ours; yields each task's id once that is so.

    Args:
        client: of a user who may change the project.
        project_id: of Label Studio.
        wanted: `result`, `score` and `model_version` for each task, by its id.
        without: ids of the tasks that have no prediction at all, which are many at the first time.
        versions: the model versions that are ours; predictions of others stay as they are.
    """
    new = [task for task in wanted if task in without]
    for task in wanted:
        if task in without:
            continue
        ours = latest_prediction(client, task, versions)
        if ours is None:
            new.append(task)
            continue
        if any(ours[name] != value for name, value in wanted[task].items()):
            change_prediction(client, int(ours["id"]), wanted[task])
        yield task
    remaining = iter(new)
    while some := list(islice(remaining, AT_ONCE)):
        body = [{"task": task, **wanted[task]} for task in some]
        client.request("POST", f"/api/projects/{project_id}/import/predictions", body=body)
        yield from some


def show_predictions(client: LabelStudio, project_id: int, version: str) -> None:
    """Have the project show the predictions of this model version, without asking an ML backend for any."""
    there = client.project(project_id)
    wanted = {"show_collab_predictions": True, "model_version": version}
    if any(there.get(name) != value for name, value in wanted.items()):
        client.request("PATCH", f"/api/projects/{project_id}/", body=wanted)


def change_prediction(client: LabelStudio, number: int, wanted: Mapping[str, Any]) -> None:
    """Give a prediction this `result`, `score` and `model_version`."""
    client.request("PATCH", f"/api/predictions/{number}/", body=dict(wanted))


def latest_prediction(client: LabelStudio, task: int, versions: Collection[str]) -> Mapping[str, Any] | None:
    """The latest prediction of ours that a task has."""
    found: Sequence[Mapping[str, Any]] = client.request("GET", "/api/predictions/", params={"task": task})
    ours = [each for each in found if each["model_version"] in versions]
    return max(ours, key=lambda each: int(each["id"]), default=None)
