"""What the loop relies on in Label Studio holds alike in the real one and in the one in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import pytest
from loop_fakes import FakeLabelStudio, chosen, mask_of, region
from support.label_studio import RunningLabelStudio
from support.push import SHOWN, png

from imil_backend.errors import LabelStudioError, LabelStudioUnreachableError, NotFoundError
from imil_backend.label_studio.api.task_deletion import delete_tasks_of
from imil_backend.label_studio.api.webhooks import ACTIONS, Change, ensure_webhook, remove_webhook
from imil_backend.label_studio.labeling.label_config import load_label_config
from imil_backend.label_studio.labeling.task_data import SAMPLE_KEY

CONFIG = load_label_config("blackout")
UNKNOWN = 10**6
BACKEND = "http://127.0.0.1:9090"
NOTHING = chosen("nothing_to_black_out")
PAINTED = region(mask_of(1, 2))


class People(Protocol):
    """What is done in Label Studio's editor and data manager."""

    def skip(self, task: int) -> int: ...
    def change(self, annotation: int, **changes: Any) -> None: ...
    def delete(self, annotation: int) -> None: ...
    def delete_task(self, task: int) -> None: ...
    def delete_project(self, project: int) -> None: ...


@dataclass
class RealPeople:
    there: RunningLabelStudio

    def skip(self, task: int) -> int:
        body = {"result": [], "was_cancelled": True}
        return int(self._do("POST", f"/api/tasks/{task}/annotations/", json=body).json()["id"])

    def change(self, annotation: int, **changes: Any) -> None:
        self._do("PATCH", f"/api/annotations/{annotation}/", json=changes)

    def delete(self, annotation: int) -> None:
        self._do("DELETE", f"/api/annotations/{annotation}/")

    def delete_task(self, task: int) -> None:
        self._do("DELETE", f"/api/tasks/{task}/")

    def delete_project(self, project: int) -> None:
        self._do("DELETE", f"/api/projects/{project}/")

    def _do(self, method: str, path: str, **more: Any) -> Any:
        answer = self.there.request(method, path, **more)
        answer.raise_for_status()
        return answer


@dataclass
class FakePeople:
    there: FakeLabelStudio

    def skip(self, task: int) -> int:
        return self.there.update(self.there.annotate(task, []), was_cancelled=True)

    def change(self, annotation: int, **changes: Any) -> None:
        self.there.update(annotation, **changes)

    def delete(self, annotation: int) -> None:
        self.there.delete(annotation)

    def delete_task(self, task: int) -> None:
        self.there.delete_task(task)

    def delete_project(self, project: int) -> None:
        self.there.gone = True


@dataclass
class There:
    """One of the two, with a project."""

    client: Any
    people: People
    project: int

    def import_tasks(self, count: int) -> list[int]:
        tasks = [{"data": {**SHOWN, "image": f"/data/{number}.png"}} for number in range(count)]
        return list(self.client.import_tasks(self.project, tasks))

    def task(self, task: int) -> dict[str, Any]:
        [found] = self.client.named_tasks(self.project, [task], whole=True)
        return dict(found)

    def summaries(self) -> dict[int, tuple[int, str]]:
        found = self.client.annotation_summaries(self.project)
        return {each.annotation_id: (each.task_id, each.task_updated_at) for each in found}


@pytest.fixture(params=["in memory", pytest.param("real", marks=pytest.mark.label_studio)])
def there(request: pytest.FixtureRequest) -> There:
    if request.param == "real":
        real: RunningLabelStudio = request.getfixturevalue("real_label_studio")
        client, people = real.client, RealPeople(real)
    else:
        client = fake = FakeLabelStudio()
        people = FakePeople(fake)
    return There(client, people, client.create_project("Contract", CONFIG, "Paint.", predictions=False))


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def test_a_project_has_the_config_that_it_was_made_with(there: There) -> None:
    found = there.client.project(there.project)
    assert (found["id"], found["label_config"]) == (there.project, CONFIG.strip())
    assert there.client.create_project("Another", CONFIG, "") != there.project


def test_tasks_come_in_order_with_their_data_and_without_annotations(there: There) -> None:
    assert list(there.client.tasks(there.project)) == []
    ids = there.import_tasks(3)
    listed = list(there.client.tasks(there.project))
    assert [task["id"] for task in listed] == ids == sorted(ids)
    assert [task["data"]["image"] for task in listed] == [f"/data/{number}.png" for number in range(3)]
    assert listed[0]["data"] == {**SHOWN, "image": "/data/0.png"}
    assert not any(task.get("annotations") for task in listed)
    assert all(moment(task["updated_at"]) for task in listed)


def test_what_is_listed_is_a_copy(there: There) -> None:
    [task] = there.import_tasks(1)
    next(there.client.tasks(there.project))["data"]["image"] = "changed here"
    annotation = there.client.create_annotation(task, PAINTED, 1.0)
    there.client.annotation(annotation)["result"].clear()
    there.task(task)["annotations"][0]["result"].clear()
    assert next(there.client.tasks(there.project))["data"]["image"] == "/data/0.png"
    assert there.client.annotation(annotation)["result"] == PAINTED


@pytest.mark.parametrize("result", [NOTHING, PAINTED, []])
def test_a_submitted_annotation_is_read_back(there: There, result: Sequence[Any]) -> None:
    [task] = there.import_tasks(1)
    number = there.client.create_annotation(task, result, 2.5)
    read = there.client.annotation(number)
    assert (read["id"], read["task"], read["project"]) == (number, task, there.project)
    assert (read["result"], read["was_cancelled"], read["lead_time"]) == (list(result), False, 2.5)
    assert read["completed_by"] == there.client.user_id()
    assert read["completed_by"] in there.client.people()
    assert moment(read["created_at"]) <= moment(read["updated_at"])


def test_a_skipped_task_has_a_cancelled_annotation_that_may_be_taken_back(there: There) -> None:
    [task] = there.import_tasks(1)
    number = there.people.skip(task)
    assert there.client.annotation(number)["was_cancelled"] is True
    assert [each["was_cancelled"] for each in there.task(task)["annotations"]] == [True]
    assert there.summaries().keys() == {number}
    there.people.change(number, was_cancelled=False, result=NOTHING)
    read = there.client.annotation(number)
    assert (read["was_cancelled"], read["result"]) == (False, NOTHING)


def test_a_task_has_several_annotations(there: There) -> None:
    tasks = there.import_tasks(2)
    first, second, other = (there.client.create_annotation(task, NOTHING, 1.0) for task in [*tasks, tasks[0]])
    assert {number: task for number, (task, _) in there.summaries().items()} == {
        first: tasks[0],
        second: tasks[1],
        other: tasks[0],
    }
    assert sorted(each["id"] for each in there.task(tasks[0])["annotations"]) == [first, other]


CHANGES: dict[str, Callable[[There, int, int], Any]] = {
    "created": lambda there, task, _: there.client.create_annotation(task, NOTHING, 1.0),
    "changed": lambda there, _, annotation: there.people.change(annotation, result=PAINTED),
    "cancelled": lambda there, _, annotation: there.people.change(annotation, was_cancelled=True),
    "deleted": lambda there, _, annotation: there.people.delete(annotation),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_tasks_clock_moves_with_each_of_its_annotations_and_no_others(there: There, change: str) -> None:
    touched, left = there.import_tasks(2)
    kept = there.client.create_annotation(touched, NOTHING, 1.0)
    changed = there.client.create_annotation(touched, NOTHING, 1.0)
    elsewhere = there.client.create_annotation(left, NOTHING, 1.0)
    before = there.summaries()
    CHANGES[change](there, touched, changed)
    after = there.summaries()
    assert moment(after[kept][1]) > moment(before[kept][1])
    assert after[elsewhere] == before[elsewhere]
    assert (changed in after) is (change != "deleted")
    assert after[kept][1] == there.task(touched)["updated_at"]


def test_an_annotation_is_changed_in_place(there: There) -> None:
    [task] = there.import_tasks(1)
    number = there.client.create_annotation(task, NOTHING, 1.0)
    before = there.client.annotation(number)
    there.people.change(number, result=PAINTED)
    after = there.client.annotation(number)
    assert (after["result"], after["created_at"]) == (PAINTED, before["created_at"])
    assert moment(after["updated_at"]) > moment(before["updated_at"])


def test_what_is_deleted_is_gone_and_so_are_a_deleted_tasks_annotations(there: There) -> None:
    tasks = there.import_tasks(2)
    deleted, of_deleted = (there.client.create_annotation(task, NOTHING, 1.0) for task in tasks)
    there.people.delete(deleted)
    there.people.delete_task(tasks[1])
    assert there.client.annotation(deleted) is None
    assert there.client.annotation(of_deleted) is None
    assert there.summaries() == {}
    assert [task["id"] for task in there.client.tasks(there.project)] == tasks[:1]
    assert [task["id"] for task in there.client.named_tasks(there.project, tasks)] == tasks[:1]


def test_tasks_are_named_whole_or_not_and_in_their_project_only(there: There) -> None:
    first, second, _ = there.import_tasks(3)
    painted = there.client.create_annotation(first, PAINTED, 1.0)
    named = [second, first, UNKNOWN]
    assert {task["id"] for task in there.client.named_tasks(there.project, named)} == {first, second}
    assert not any(task.get("annotations") for task in there.client.named_tasks(there.project, named))
    whole = {task["id"]: task for task in there.client.named_tasks(there.project, named, whole=True)}
    assert whole[second]["annotations"] == []
    [listed] = whole[first]["annotations"]
    alone = there.client.annotation(painted)
    used = ("id", "task", "result", "was_cancelled", "completed_by", "created_at", "updated_at")
    assert {name: listed[name] for name in used} == {name: alone[name] for name in used}
    elsewhere = there.client.create_project("Elsewhere", CONFIG, "")
    assert list(there.client.named_tasks(elsewhere, named)) == []
    assert list(there.client.named_tasks(there.project, [])) == []
    assert list(there.client.tasks(elsewhere)) == []
    assert list(there.client.annotation_summaries(elsewhere)) == []


def test_uploaded_images_are_downloaded_under_the_paths_that_the_upload_gave(there: There) -> None:
    images = [("one image.png", png(seed=1)), ("one image.png", png(seed=2))]
    paths = there.client.upload_images(there.project, images)
    assert len(set(paths)) == 2
    assert all(path.startswith(f"/data/upload/{there.project}/") for path in paths)
    assert [there.client.download(path) for path in paths] == [content for _, content in images]
    with pytest.raises(NotFoundError):
        there.client.download(f"/data/upload/{there.project}/nothing.png")


def test_tasks_of_samples_are_deleted_with_their_uploads_and_others_stay(there: There) -> None:
    paths = there.client.upload_images(there.project, [(f"{key}.png", png(seed=5)) for key in "ab"])
    for key, path in zip("ab", paths, strict=True):
        data = {**SHOWN, "image": path, SAMPLE_KEY: key}
        [task] = there.client.import_tasks(there.project, [{"data": data}])
        there.client.create_annotation(task, PAINTED, 1.0)
    done = delete_tasks_of(there.client, there.project, {"a", "c"})
    assert (done.tasks, done.uploads) == (1, (paths[0].removeprefix("/data/"),))
    assert [task["data"][SAMPLE_KEY] for task in there.client.tasks(there.project)] == ["b"]
    assert len(there.summaries()) == 1
    with pytest.raises((LabelStudioError, NotFoundError)):
        there.client.download(paths[0])
    assert there.client.download(paths[1]) == png(seed=5)
    assert delete_tasks_of(there.client, there.project, {"a", "c"}).tasks == 0


def test_a_webhook_is_registered_kept_repaired_and_removed(there: There) -> None:
    def registered() -> list[dict[str, Any]]:
        return list(there.client.request("GET", "/api/webhooks/", params={"project": there.project}))

    def ensure(secret: str = "secret", **more: Any) -> Change:
        return ensure_webhook(there.client, there.project, BACKEND, secret, **more)

    assert (ensure(), ensure()) == (Change.CREATED, Change.KEPT)
    [hook] = registered()
    assert (hook["url"], set(hook["actions"])) == (f"{BACKEND}/webhook", set(ACTIONS))
    # Actions that a change leaves out are cleared.
    there.client.request("PATCH", f"/api/webhooks/{hook['id']}/", body={"is_active": False})
    [damaged] = registered()
    assert (damaged["is_active"], damaged["actions"]) == (False, [])
    assert (ensure(), ensure()) == (Change.REPAIRED, Change.KEPT)
    assert ensure("another secret", former=["secret"]) is Change.REPAIRED
    body = {"project": there.project, "url": f"{BACKEND}/webhook/"}
    there.client.request("POST", "/api/webhooks/", body=body)
    assert len(registered()) == 2
    assert ensure("another secret") is Change.REPAIRED
    elsewhere = there.client.create_project("Elsewhere", CONFIG, "")
    assert there.client.request("GET", "/api/webhooks/", params={"project": elsewhere}) == []
    assert remove_webhook(there.client, there.project, BACKEND, ["another secret"]) == 1
    assert registered() == []


def test_what_is_not_there_is_not_found(there: There) -> None:
    assert there.client.annotation(UNKNOWN) is None
    for ask in (
        lambda: there.client.project(UNKNOWN),
        lambda: there.client.create_annotation(UNKNOWN, NOTHING, 1.0),
        lambda: there.client.request("DELETE", f"/api/webhooks/{UNKNOWN}/"),
    ):
        with pytest.raises(NotFoundError):
            ask()


def test_an_import_into_a_project_that_is_not_there_is_answered_with_a_page(there: There) -> None:
    """So our client cannot tell it from a Label Studio that is down (1.23)."""
    for ask in (
        lambda: there.client.import_tasks(UNKNOWN, [{"data": {**SHOWN, "image": "/data/0.png"}}]),
        lambda: there.client.upload_images(UNKNOWN, [("a.png", png())]),
    ):
        with pytest.raises(LabelStudioUnreachableError):
            ask()


def test_a_project_that_is_deleted_is_not_found(there: There) -> None:
    there.people.delete_project(there.project)
    with pytest.raises(NotFoundError, match="No Project matches"):
        there.client.project(there.project)


def test_tasks_without_what_the_config_shows_are_refused(there: There) -> None:
    with pytest.raises(LabelStudioError, match="image"):
        there.client.import_tasks(there.project, [{"data": SHOWN}])
    assert list(there.client.tasks(there.project)) == []
