"""A classification project of Label Studio as the source of a data set."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from imil_backend.errors import (
    AmbiguousConfigError,
    AnnotationError,
    DatasetError,
    ImageError,
    LabelConfigError,
)
from imil_backend.label_studio.labeling.classification import SeveralAnnotators, class_of
from imil_backend.label_studio.labeling.label_config import ProjectMapping, read_label_config
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.importing.fetching import fetch_images, keep_image
from imil_backend.loop.importing.importing import ImportReport, import_rows, limited
from imil_backend.loop.sources.rows import SPLIT_NAMES, Row, Source
from imil_backend.loop.sources.tables.labels import is_missing

Progress = Callable[[str, int, int], None]
UNFETCHED = Path()


@dataclass(frozen=True)
class Fields:
    """Which fields of a task's data and which tags of the labeling config to use.

    Attributes:
        group: fields that together form the group.
        split: the field of the split.
        image: name of the Image tag, if there are several.
        class_choices: name of the Choices tag with the class, if there are several.
    """

    group: tuple[str, ...] = ()
    split: str | None = None
    image: str | None = None
    class_choices: str | None = None


def import_project(
    backend: Backend,
    number: int,
    *,
    name: str | None = None,
    fields: Fields | None = None,
    rule: SeveralAnnotators = SeveralAnnotators.MAJORITY,
    limit: int | None = None,
    seed: int = 0,
    keep_leaking: bool = False,
    window: str | None = None,
    progress: Progress | None = None,
) -> ImportReport:
    """Import a project whose annotators chose the class of each image. Nothing in it is changed.

    If interrupted, it resumes; repeated, it adds only what is new.

    Args:
        backend: the store, the files and Label Studio.
        number: the project's id.
        name: the dataset's; the project's title if absent.
        fields: of a task's data, and tags of the labeling config.
        rule: for several annotators of a task.
        limit: import at most this many images, chosen by the seed.
        seed: of the limit's choice and of the splits.
        keep_leaking: train on samples even if their group is in the given test split too.
        window: as of `import_dataset`.
        progress: called with what is being done, the number of tasks or images done, and of all.

    Raises:
        LabelConfigError: the project has no Choices for its image.
        AmbiguousConfigError: it has several images or Choices, and `fields` names none.
        DatasetError: nothing in it can be used, or it does not fit the dataset.
        LabelStudioError: Label Studio cannot be reached or refuses; run the command again.
    """
    project = backend.label_studio.project(number)
    mapping = _mapping(project, fields or Fields())
    found = Source([], project=(backend.settings.label_studio_url, number))
    filled: set[str] = set()  # fields of the tasks that hold something
    for task in backend.label_studio.whole_tasks(number, _of("Listing the tasks", progress)):
        filled |= {str(name) for name, value in task["data"].items() if not _is_empty(value)}
        _list(backend, task, mapping, fields or Fields(), rule, found)
    if not found.rows and not found.set_aside:
        raise DatasetError(f"Nobody has chosen a class in project {number} yet.")
    _check_fields(fields or Fields(), filled, number)
    _fetch(backend, number, limited(found.rows, limit, seed), found, _of("Fetching the images", progress))
    return import_rows(
        backend,
        found,
        name or str(project["title"]),
        seed=seed,
        keep_leaking=keep_leaking,
        window=window,
        progress=_of("Reading the images", progress),
    )


def _of(what: str, progress: Progress | None) -> Callable[[int, int], None] | None:
    return partial(progress, what) if progress else None


def _mapping(project: Mapping[str, Any], fields: Fields) -> ProjectMapping:
    mapping = read_label_config(
        project["label_config"], image=fields.image, class_choices=fields.class_choices, complete=False
    )
    several = mapping.class_candidates
    if mapping.class_choices_name is None and several:
        raise AmbiguousConfigError(
            f"Project {project['id']} has no Choices {fields.class_choices!r} for its image; it has "
            f"{', '.join(several)}.",
            "class_choices",
            several,
        )
    if len(several) > 1 and fields.class_choices is None:
        raise AmbiguousConfigError(
            f"Project {project['id']} has several Choices for its image. Choose the one with the "
            f"class with --class-choices: {', '.join(several)}.",
            "class_choices",
            several,
        )
    if mapping.class_choices_name is None:
        raise LabelConfigError(
            f"Project {project['id']} has no <Choices> for its image, so it has no classes."
        )
    return mapping


def _list(
    backend: Backend,
    task: Mapping[str, Any],
    mapping: ProjectMapping,
    fields: Fields,
    rule: SeveralAnnotators,
    found: Source,
) -> None:
    """Add a task to the rows, or set it aside."""
    name = f"task {task['id']}"
    try:
        label = class_of(task, str(mapping.class_choices_name), rule)
        if label is None:
            found.unlabelled += 1
            return
        row = _row(name, label, task, mapping, fields)
        if row.address is not None and row.address.startswith("data:"):
            content = backend.label_studio.download(row.address)
            row = replace(row, image=keep_image(backend, content), address=None)
        found.rows.append(row)
    except (AnnotationError, DatasetError, ImageError) as error:
        found.set_aside.append(("image", name, str(error)))


def _row(name: str, label: str, task: Mapping[str, Any], mapping: ProjectMapping, fields: Fields) -> Row:
    data = task["data"]
    address = data.get(mapping.image_key)
    if not isinstance(address, str) or not address:
        raise DatasetError(f"Its field {mapping.image_key!r} is not the URL of an image.")
    split = _split(data, fields.split) if fields.split else None
    return Row(
        name=name,
        image=UNFETCHED,
        label=label,
        split=split,
        group=_group(data, fields.group),
        address=address,
        task=int(task["id"]),
    )


def _split(data: Mapping[str, Any], field: str) -> str:
    """The split that a task names. A random one would mix what somebody has kept apart."""
    if _is_empty(data.get(field)):
        raise DatasetError(f"It has no {field!r} for the split.")
    given = str(data[field]).strip()
    if given.casefold() not in SPLIT_NAMES:
        raise DatasetError(f"Its split is {given!r}; it must be train, validation or test.")
    return SPLIT_NAMES[given.casefold()]


def _is_empty(value: Any) -> bool:
    """Whether a field of a task is empty, or holds a word for it."""
    return value is None or is_missing(str(value))


def _check_fields(fields: Fields, filled: Collection[str], number: int) -> None:
    """Refuse a field that no task has."""
    options = [("--group", name) for name in fields.group]
    if fields.split:
        options.append(("--split", fields.split))
    for option, name in options:
        if name not in filled:
            raise DatasetError(
                f"No task of project {number} has a field {name!r} ({option}). "
                f"Their fields: {', '.join(sorted(filled)) or 'none'}."
            )


def _group(data: Mapping[str, Any], names: Sequence[str]) -> str | None:
    missing = [name for name in names if _is_empty(data.get(name))]
    if missing:
        raise DatasetError(f"It has no {' and no '.join(map(repr, missing))} for the group.")
    return "/".join(str(data[name]) for name in names) or None


def _fetch(
    backend: Backend,
    project: int,
    rows: list[Row],
    found: Source,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Leave the rows whose images are here now, and set the others aside."""
    found.rows = [row for row in rows if row.address is None]
    waiting = [(row, row.address) for row in rows if row.address is not None]
    images = fetch_images(backend, project, [address for _, address in waiting], progress)
    for (row, _), image in zip(waiting, images, strict=True):
        if isinstance(image, Path):
            found.rows.append(replace(row, image=image))
        else:
            found.set_aside.append(("image", row.name, image))
