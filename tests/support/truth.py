"""Whether the store equals Label Studio: asked past everything that is under test, with plain requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select

from imil_backend.images.masks.masks import mask_from_png, mask_to_png
from imil_backend.label_studio.labeling.annotations import read_annotation
from imil_backend.label_studio.labeling.label_config import ProjectMapping, read_label_config
from imil_backend.loop.answers.sample_states import mask_path
from imil_backend.loop.base.backend import Backend, find_project
from imil_backend.store.tables import Annotation, Sample, Task

Ask = Callable[[str], Any]


@dataclass(frozen=True)
class Standing:
    """How much was compared, and found equal."""

    annotations: int
    masks: int


def assert_equals_label_studio(backend: Backend, ask: Ask, project_number: int) -> Standing:
    """Assert that answers and tasks stand in the store as in Label Studio: none lost, none doubled.

    Args:
        backend: the store and the masks.
        ask: the JSON at a path of Label Studio's API, or None where it has nothing.
        project_number: of Label Studio; it may be gone there, then nothing may stand.
    """
    there, tasks = _in_label_studio(backend, ask, project_number)
    here = _in_the_store(backend, project_number)
    doubled = [row for row, count in Counter(row[:2] for row in here).items() if count > 1]
    assert not doubled, f"doubled: {doubled}"
    assert not there - here, (
        f"lost, or not as they are in Label Studio: {there - here} (store: {here - there})"
    )
    assert not here - there, f"not, or not so, in Label Studio: {here - there}"
    assert _standing_tasks(backend, project_number) == tasks
    return Standing(len(here), sum(row[-1] is not None for row in here))


def _in_label_studio(
    backend: Backend, ask: Ask, project_number: int
) -> tuple[set[tuple[Any, ...]], set[tuple[int, str]]]:
    """The annotations of our tasks, each with what it says; and those of our tasks that are there."""
    project = ask(f"/api/projects/{project_number}/")
    if project is None:
        return set(), set()
    mapping = read_label_config(project["label_config"])
    with backend.store.begin() as session:
        samples = {sample.key: sample for sample in session.scalars(select(Sample))}
        found = session.execute(select(Task.label_studio_id, Sample.key).join(Task.sample))
        pushed = {(row.label_studio_id, row.key) for row in found}
    annotations, tasks = set(), set()
    for task in _tasks(ask, project_number):
        key = task["data"].get("imil_sample")
        if key not in samples:
            continue
        tasks.add((int(task["id"]), str(key)))
        # The listing of a task's annotations leaves out skipped ones; the task itself does not.
        for raw in (ask(f"/api/tasks/{task['id']}/") or {"annotations": []})["annotations"]:
            annotations.add(_said(raw, mapping, samples[key]))
    return annotations, tasks & pushed


def _tasks(ask: Ask, project_number: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page = len(found) // 100 + 1
        answer = ask(f"/api/tasks/?project={project_number}&page={page}&page_size=100")
        if answer is None:
            return found
        found += answer["tasks"]
        if not answer["tasks"] or len(found) >= answer["total"]:
            return found


def _said(raw: dict[str, Any], mapping: ProjectMapping, sample: Sample) -> tuple[Any, ...]:
    reading = read_annotation(raw, mapping, sample.width, sample.height)
    mask = None if reading.mask is None else mask_to_png(reading.mask)
    created = datetime.fromisoformat(raw["created_at"].replace("Z", "+00:00"))
    annotator = raw["completed_by"]["id"]
    return int(raw["id"]), created, sample.key, annotator, reading.answer.value, mask


def _in_the_store(backend: Backend, project_number: int) -> set[tuple[Any, ...]]:
    with backend.store.begin() as session:
        project = find_project(session, backend.settings.label_studio_url, project_number)
        assert project is not None, f"project {project_number} is not in the store"
        rows = session.scalars(
            select(Annotation).where(Annotation.project_id == project.id, ~Annotation.deleted)
        ).all()
    numbers = Counter(row.label_studio_id for row in rows)
    assert max(numbers.values(), default=1) == 1, f"doubled: {numbers}"
    return {
        (
            row.label_studio_id,
            row.label_studio_created_at,
            row.sample.key,
            row.user,
            row.answer,
            _mask(backend, row),
        )
        for row in rows
    }


def _mask(backend: Backend, row: Annotation) -> bytes | None:
    """The mask that is kept for an annotation, read and written again."""
    if row.mask_sha256 is None:
        return None
    path = mask_path(backend, row.mask_sha256)
    return mask_to_png(mask_from_png(path, row.sample.width, row.sample.height))


def _standing_tasks(backend: Backend, project_number: int) -> set[tuple[int, str]]:
    with backend.store.begin() as session:
        project = find_project(session, backend.settings.label_studio_url, project_number)
        assert project is not None
        standing = select(Task.label_studio_id, Sample.key).join(Task.sample)
        found = session.execute(standing.where(Task.project_id == project.id, ~Task.deleted))
        return {(row.label_studio_id, row.key) for row in found}
