"""Fields of tasks that options name, and that tasks lack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from loop_fakes import write_image
from sqlalchemy import select
from support.label_configs import classification_config

from imil_backend.errors import DatasetError
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.importing.classification_source import Fields, import_project
from imil_backend.loop.importing.importing import ImportReport
from imil_backend.store.tables import Sample


class Project:
    """A Label Studio with one classification project: of each task its data, and in turn a class."""

    def __init__(self, folder: Path, tasks: list[dict[str, Any]]) -> None:
        self.folder, self.tasks = folder, tasks

    def project(self, number: int) -> dict[str, Any]:
        return {"id": number, "title": "films", "label_config": classification_config(["sick", "well"])}

    def whole_tasks(
        self, number: int, progress: Callable[[int, int], None] | None
    ) -> Iterator[dict[str, Any]]:
        for task, data in enumerate(self.tasks):
            value = {"choices": [["sick", "well"][task % 2]]}
            item = {"from_name": "class", "to_name": "image", "type": "choices", "value": value}
            yield {
                "id": task,
                "data": {"image": f"/data/{task}.png", **data},
                "annotations": [{"id": task, "result": [item]}],
            }

    def download(self, address: str, seconds: float | None = None) -> bytes:
        number = int(Path(address).stem)
        return write_image(self.folder / f"{number}.png", number).read_bytes()


def imported(backend: Backend, folder: Path, tasks: list[dict[str, Any]], **fields: Any) -> ImportReport:
    backend.__dict__["label_studio"] = Project(folder, tasks)
    return import_project(backend, 4, fields=Fields(**fields))


@pytest.mark.parametrize(
    ("option", "fields"), [("split", {"split": "fold"}), ("group", {"group": ("fold",)})]
)
@pytest.mark.parametrize("empty", [{}, {"fold": None}, {"fold": ""}, {"fold": "nan"}])
def test_a_field_that_no_task_has_is_refused_with_those_that_are_there(
    backend: Backend, tmp_path: Path, option: str, fields: dict[str, Any], empty: dict[str, Any]
) -> None:
    tasks = [{"patient": "p1", **empty}, {"patient": "p2", **empty}]
    words = rf"No task of project 4 has a field 'fold' \(--{option}\)\. Their fields: image, patient\."
    with pytest.raises(DatasetError, match=words):
        imported(backend, tmp_path, tasks, **fields)


@pytest.mark.parametrize("fields", [{"split": "fold"}, {"group": ("fold",)}])
def test_a_task_without_the_field_is_set_aside(
    backend: Backend, tmp_path: Path, fields: dict[str, Any]
) -> None:
    tasks = [{"fold": "train"}, {"fold": "train"}, {}, {"fold": " "}, {"fold": None}]
    report = imported(backend, tmp_path, tasks, **fields)
    assert report.added == 2
    assert [name for name, _ in report.set_aside] == ["task 2", "task 3", "task 4"]
    assert all("It has no 'fold' for the" in reason for _, reason in report.set_aside)


def test_a_number_is_no_split(backend: Backend, tmp_path: Path) -> None:
    report = imported(backend, tmp_path, [{"fold": "Val"}, {"fold": "train"}, {"fold": 0}], split="fold")
    assert [reason for _, reason in report.set_aside] == [
        "Its split is '0'; it must be train, validation or test."
    ]
    with backend.store.begin() as session:
        assert set(session.scalars(select(Sample.split))) == {"validation", "train"}


def test_texts_that_cannot_be_kept_are_set_aside(backend: Backend, tmp_path: Path) -> None:
    tasks = [{"patient": "p"}, {"patient": "q"}, {"patient": "\ud800"}, {"patient": "x" * 300}]
    report = imported(backend, tmp_path, tasks, group=("patient",))
    assert report.added == 2
    assert [name for name, _ in report.set_aside] == ["task 2", "task 3"]
