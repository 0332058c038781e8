"""Everything that can become of an annotation, in the real Label Studio: the store ends up equal to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from loop_fakes import chosen, make_backend, make_dataset, make_version, mask_of, region
from sqlalchemy import select
from support.label_studio import RunningLabelStudio
from support.truth import Standing, assert_equals_label_studio

from imil_backend.errors import LabelStudioUnreachableError
from imil_backend.label_studio.api.client import LabelStudio
from imil_backend.label_studio.labeling.label_config import load_label_config
from imil_backend.loop.answers.reconcile import Differences, reconcile
from imil_backend.loop.answers.sample_states import mask_path
from imil_backend.loop.answers.sync import sync_annotation
from imil_backend.loop.base.audit import history
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.rounds.lifecycle import open_round
from imil_backend.loop.rounds.push import push_round
from imil_backend.store.tables import Annotation, Dataset, Project, Sample, Task

pytestmark = pytest.mark.label_studio

NAMES = [f"train-{number}" for number in range(4)]


@dataclass
class Pushed:
    """An open round of train-0 to train-3 in a project of its own in the real Label Studio."""

    backend: Backend
    label_studio: RunningLabelStudio
    dataset: Dataset
    number: int  # of the project

    @property
    def project(self) -> Project:
        with self.backend.store.begin() as session:
            return session.scalars(select(Project)).one()

    @property
    def tasks(self) -> list[int]:
        with self.backend.store.begin() as session:
            return list(session.scalars(select(Task.label_studio_id).order_by(Task.rank)))

    def send(self, method: str, path: str, body: Any = None) -> Any:
        """Do something as a user of Label Studio."""
        answer = self.label_studio.request(method, path, json=body)
        assert answer.ok, answer.text
        return answer.json() if answer.content else None

    def paint(self, task: int, *columns: int) -> int:
        body = {"result": region(mask_of(*columns))}
        return int(self.send("POST", f"/api/tasks/{task}/annotations/", body)["id"])

    def act(self, action: str, tasks: list[int]) -> None:
        """One of the actions above the data manager's list."""
        selected = {"selectedItems": {"all": False, "included": tasks}}
        self.send("POST", f"/api/dm/actions?id={action}&project={self.number}", selected)

    def hint(self, number: int) -> str:
        return sync_annotation(self.backend, self.project, number)

    def reconcile(self, *, full: bool = False) -> Differences:
        return reconcile(self.backend, self.project, full=full)

    def assert_equal(self) -> Standing:
        return assert_equals_label_studio(self.backend, self.label_studio.ask, self.number)


@pytest.fixture
def pushed(tmp_path: Path, real_label_studio: RunningLabelStudio) -> Iterator[Pushed]:
    label_studio = real_label_studio
    backend = make_backend(
        tmp_path, label_studio_url=label_studio.url, label_studio_api_key=label_studio.api_key
    )
    dataset = make_dataset(backend)
    with backend.store.begin() as session:
        session.get_one(Dataset, dataset.id).policy = {"budget": 0.5}
        for sample in session.scalars(select(Sample)):
            sample.name += ".png"  # Label Studio takes no file without
    make_version(backend, dataset, wrong=NAMES)
    number = label_studio.client.create_project("Truth", load_label_config("blackout"), "")
    with backend.store.begin() as session:
        session.add(Project(dataset_id=dataset.id, instance=label_studio.url, label_studio_id=number))
    with backend.store.begin() as session:
        round_ = open_round(session, session.get_one(Dataset, dataset.id))
    assert push_round(backend, round_.id) == len(NAMES)
    yield Pushed(backend, label_studio, dataset, number)
    backend.close()


def update(pushed: Pushed, number: int) -> None:
    pushed.send("PATCH", f"/api/annotations/{number}/", {"result": region(mask_of(0, 5))})


def empty(pushed: Pushed, number: int) -> None:
    pushed.send("PATCH", f"/api/annotations/{number}/", {"result": []})


def say_unreadable(pushed: Pushed, number: int) -> None:
    pushed.send("PATCH", f"/api/annotations/{number}/", {"result": chosen("unreadable")})


def skip(pushed: Pushed, number: int) -> None:
    pushed.send("PATCH", f"/api/annotations/{number}/", {"was_cancelled": True})


def skip_and_take_back(pushed: Pushed, number: int) -> None:
    skip(pushed, number)
    pushed.hint(number)
    pushed.send("PATCH", f"/api/annotations/{number}/", {"was_cancelled": False})


def move_to_another_task(pushed: Pushed, number: int) -> None:
    pushed.send("PATCH", f"/api/annotations/{number}/", {"task": pushed.tasks[3]})


def make_a_draft(pushed: Pushed, number: int) -> None:
    pushed.send("POST", f"/api/annotations/{number}/convert-to-draft", {})


def delete(pushed: Pushed, number: int) -> None:
    pushed.send("DELETE", f"/api/annotations/{number}/")


def delete_and_paint_another_task(pushed: Pushed, number: int) -> None:
    delete(pushed, number)
    pushed.paint(pushed.tasks[2], 4)  # SQLite gives it the id that has become free


def delete_all_annotations_of_its_task(pushed: Pushed, number: int) -> None:
    pushed.act("delete_tasks_annotations", [pushed.tasks[1]])


def delete_its_task(pushed: Pushed, number: int) -> None:
    pushed.send("DELETE", f"/api/tasks/{pushed.tasks[1]}/")


def use_the_task_ids_again(pushed: Pushed, number: int) -> None:
    """All tasks deleted and imported again in another order: SQLite gives them the same ids."""
    tasks = [pushed.send("GET", f"/api/tasks/{task}/")["data"] for task in pushed.tasks]
    pushed.act("delete_tasks", pushed.tasks)
    again = pushed.label_studio.client.import_tasks(
        pushed.number, [{"data": data} for data in reversed(tasks)]
    )
    pushed.paint(again[0], 1)


def change_the_sample_of_its_task(pushed: Pushed, number: int) -> None:
    task = pushed.send("GET", f"/api/tasks/{pushed.tasks[1]}/")
    pushed.send(
        "PATCH",
        f"/api/tasks/{pushed.tasks[1]}/",
        {"data": {**task["data"], "imil_sample": "key-train-3"}},
    )


CHANGES = [
    update,
    empty,
    say_unreadable,
    skip,
    skip_and_take_back,
    move_to_another_task,
    make_a_draft,
    delete,
    delete_and_paint_another_task,
    delete_all_annotations_of_its_task,
    delete_its_task,
    use_the_task_ids_again,
    change_the_sample_of_its_task,
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("hinted", [False, True])
def test_whatever_becomes_of_an_annotation_the_store_ends_up_equal(
    pushed: Pushed, change: Callable[[Pushed, int], None], hinted: bool
) -> None:
    number = pushed.paint(pushed.tasks[1], 2)
    pushed.paint(pushed.tasks[0], 3)
    pushed.reconcile()
    assert pushed.assert_equal() == Standing(annotations=2, masks=2)
    change(pushed, number)
    if hinted:
        pushed.hint(number)
        pushed.hint(number)
    pushed.reconcile()
    standing = pushed.assert_equal()
    pushed.reconcile()  # telling what does not count changed the task: it is read once more
    assert pushed.reconcile() == Differences(seen=standing.annotations)  # and nothing more is found


def test_a_project_that_is_deleted_leaves_the_masks_and_the_trail(pushed: Pushed) -> None:
    pushed.paint(pushed.tasks[1], 2)
    pushed.reconcile()
    pushed.send("DELETE", f"/api/projects/{pushed.number}/")
    assert pushed.reconcile() == Differences(deleted=1, tasks_deleted=4, gone=True)
    assert pushed.assert_equal() == Standing(0, 0)
    assert pushed.reconcile() == Differences(gone=True)
    with pushed.backend.store.begin() as session:
        annotation = session.scalars(select(Annotation)).one()
        assert mask_path(pushed.backend, str(annotation.mask_sha256)).exists()
        sample = session.get_one(Sample, annotation.sample_id)
        told = [entry["event"] for entry in history(session, pushed.dataset, sample)]
    assert told == ["asked", "answered", "withdrawn"]


def test_an_address_that_answers_with_pages_is_not_taken_for_an_empty_label_studio(
    pushed: Pushed, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = pushed.paint(pushed.tasks[1], 2)
    pushed.reconcile()
    elsewhere = LabelStudio(f"{pushed.label_studio.url}/elsewhere", pushed.label_studio.api_key)
    monkeypatch.setitem(pushed.backend.__dict__, "label_studio", elsewhere)
    for look in (pushed.reconcile, lambda: pushed.hint(number)):
        with pytest.raises(LabelStudioUnreachableError, match=r"Is .*/elsewhere its URL"):
            look()
    pushed.assert_equal()


def test_a_webhook_that_was_switched_off_or_removed_is_repaired(pushed: Pushed) -> None:
    assert pushed.reconcile().webhook == "created"
    path = f"/api/webhooks/?project={pushed.number}"
    for fault in ({"is_active": False}, {"url": "http://127.0.0.1:9/elsewhere"}, None):
        (hook,) = pushed.send("GET", path)
        if fault:
            pushed.send("PATCH", f"/api/webhooks/{hook['id']}/", {**hook, **fault})
        else:
            pushed.send("DELETE", f"/api/webhooks/{hook['id']}/")
        assert pushed.reconcile().webhook == ("repaired" if fault else "created")
        (repaired,) = pushed.send("GET", path)
        assert repaired["is_active"]
        assert repaired["url"] == f"{pushed.backend.settings.own_url}/webhook"
        assert pushed.reconcile().webhook is None
