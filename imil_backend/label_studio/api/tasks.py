"""Push samples to a project: upload their images if necessary, and import their tasks. Idempotent."""

from __future__ import annotations

import base64
import mimetypes
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from imil_backend.label_studio.api.client import Json, LabelStudio
from imil_backend.label_studio.labeling.task_data import (
    EVIDENCE_KEY,
    REVIEW_KEY,
    ROUND_KEY,
    SAMPLE_KEY,
    sample_key_of,
)

# One batch is what is held in memory, and what an interruption may upload for nothing.
BATCH_ITEMS = 25
BATCH_BYTES = 32 * 2**20


@dataclass(frozen=True)
class PushItem:
    """A sample that is to become a task.

    Attributes:
        sample_key: our own key of the sample; the uploaded file is named after it.
        filename: only its suffix is used: a file name may hold a patient's.
        read: gives the image's content, as a browser can show it; called once, when its turn comes.
        data: what the task shows and carries besides (label, predicted, confidence, round, note).
        address: where Label Studio shows the image already; then nothing is read or uploaded.
        prediction: what the task is pre-filled with: `result`, `score` and `model_version`.
        beside: a JPEG that is shown beside the image; its address goes into the task's data. Not where images
            are put into the data.
    """

    sample_key: str
    filename: str
    read: Callable[[], bytes]
    data: Mapping[str, Any]
    address: str | None = None
    prediction: Mapping[str, Any] | None = None
    beside: bytes | None = None


@dataclass(frozen=True)
class PushedTask:
    """A sample's task; `created` is False where it was there already."""

    sample_key: str
    task_id: int
    created: bool


def pushed_tasks(client: LabelStudio, project_id: int, round_number: int) -> dict[str, int]:
    """The task id of each sample that this project already has a task for in this round, reviews left out."""
    return {
        key: int(task["id"])
        for task in client.tasks(project_id)
        if (key := sample_key_of(task))
        and str(task["data"].get(ROUND_KEY)) == str(round_number)
        and not task["data"].get(REVIEW_KEY)
    }


def push_tasks(
    client: LabelStudio,
    project_id: int,
    items: Iterable[PushItem],
    *,
    already: Mapping[str, int],
    image_key: str = "image",
    inline: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Iterator[PushedTask]:
    """Make one task for each item, in order, and yield it.

    Pushing again creates nothing twice and goes on where a push was interrupted, if `already` is what Label
    Studio holds now: ask `pushed_tasks` right before. Memory holds one batch of images, about 32 MiB.

    Args:
        client: of a user who may change the project.
        project_id: of Label Studio.
        items: the most instructive first: it is the clinician's first, too.
        already: task id by sample key, from `pushed_tasks`.
        image_key: the key in a task's data that the labeling config shows as the image.
        inline: put the images into the tasks' data, where Label Studio takes no uploads.
        progress: called with the number of items done so far.
    """
    done = 0
    for batch in _batches(items, already):
        tasks = [
            *(PushedTask(key, already[key], created=False) for key in batch.known),
            *_push_batch(client, project_id, batch, image_key, inline),
        ]
        done += len(tasks)
        yield from tasks
        if progress:
            progress(done)


@dataclass
class _Batch:
    """Items with the images of those that are uploaded, and the keys of those that need nothing."""

    items: list[PushItem] = field(default_factory=list)
    images: list[tuple[str, bytes]] = field(default_factory=list)
    known: list[str] = field(default_factory=list)

    @property
    def full(self) -> bool:
        return len(self.items) >= BATCH_ITEMS or sum(len(image) for _, image in self.images) >= BATCH_BYTES


def _batches(items: Iterable[PushItem], already: Mapping[str, int]) -> Iterator[_Batch]:
    batch = _Batch()
    for item in items:
        if item.sample_key in already:
            batch.known.append(item.sample_key)
            continue
        batch.items.append(item)
        if item.address is None:
            batch.images.append((_upload_name(item), item.read()))
        if batch.full:
            yield batch
            batch = _Batch()
    if batch.items or batch.known:
        yield batch


def _push_batch(
    client: LabelStudio, project_id: int, batch: _Batch, image_key: str, inline: bool
) -> Iterator[PushedTask]:
    if not batch.items:
        return
    if inline or not batch.images:
        there = iter([_data_uri(name, image) for name, image in batch.images])
    else:
        there = iter(client.upload_images(project_id, batch.images))
    beside = {} if inline else _uploaded_beside(client, project_id, batch)
    tasks: list[Json] = [
        {
            "data": {
                **item.data,
                SAMPLE_KEY: item.sample_key,
                image_key: item.address or next(there),
                **beside.get(item.sample_key, {}),
            },
            "predictions": [item.prediction] if item.prediction else [],
        }
        for item in batch.items
    ]
    task_ids = client.import_tasks(project_id, tasks)
    for item, task_id in zip(batch.items, task_ids, strict=True):
        yield PushedTask(item.sample_key, task_id, created=True)


def _uploaded_beside(client: LabelStudio, project_id: int, batch: _Batch) -> dict[str, dict[str, str]]:
    """The data of the pictures that are shown beside images, by the sample's key."""
    pictures = {item.sample_key: item.beside for item in batch.items if item.beside is not None}
    if not pictures:
        return {}
    files = [(f"beside-{number}.jpg", picture) for number, picture in enumerate(pictures.values())]
    paths = client.upload_images(project_id, files)
    return {key: {EVIDENCE_KEY: path} for key, path in zip(pictures, paths, strict=True)}


def _data_uri(name: str, image: bytes) -> str:
    return f"data:{mimetypes.guess_type(name)[0] or 'image/png'};base64,{base64.b64encode(image).decode()}"


def _upload_name(item: PushItem) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", item.sample_key)[:80] + PurePath(item.filename).suffix.lower()
