from __future__ import annotations

import re
from dataclasses import replace

import pytest
from support.push import SHOWN, png, push_item

from imil_backend.label_studio.api import tasks
from imil_backend.label_studio.api.client import LabelStudio
from imil_backend.label_studio.api.tasks import push_tasks, pushed_tasks
from imil_backend.label_studio.labeling.label_config import read_label_config

pytestmark = pytest.mark.label_studio


def test_a_push_makes_one_task_for_each_sample_in_order(client: LabelStudio, project: int) -> None:
    done: list[int] = []
    pushed = list(
        push_tasks(
            client, project, [push_item(number) for number in range(3)], already={}, progress=done.append
        )
    )
    assert [task.sample_key for task in pushed] == ["sample-0", "sample-1", "sample-2"]
    assert all(task.created for task in pushed)
    assert done == [3]
    in_label_studio = list(client.tasks(project))
    assert [task["id"] for task in in_label_studio] == [task.task_id for task in pushed]
    assert [task["data"]["imil_sample"] for task in in_label_studio] == ["sample-0", "sample-1", "sample-2"]
    assert client.download(in_label_studio[1]["data"]["image"]) == png(seed=1)


def test_a_push_uploads_no_names(client: LabelStudio, project: int) -> None:
    list(push_tasks(client, project, [push_item(7)], already={}))
    [task] = client.tasks(project)
    assert re.fullmatch(r"/data/upload/\d+/[0-9a-f]+-sample-7\.png", task["data"]["image"])


def test_pushing_twice_makes_nothing_twice(client: LabelStudio, project: int) -> None:
    def push() -> list[tasks.PushedTask]:
        items = [push_item(number) for number in range(4)]
        return list(push_tasks(client, project, items, already=pushed_tasks(client, project, 1)))

    first, second = push(), push()
    assert [task.task_id for task in second] == [task.task_id for task in first]
    assert not any(task.created for task in second)
    assert client.project(project)["task_number"] == 4


def test_an_interrupted_push_goes_on(
    client: LabelStudio, project: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "BATCH_ITEMS", 2)

    def fail() -> bytes:
        raise KeyboardInterrupt

    broken = [push_item(number, read=fail if number == 5 else None) for number in range(7)]
    with pytest.raises(KeyboardInterrupt):
        list(push_tasks(client, project, broken, already={}))
    already = pushed_tasks(client, project, 1)
    assert set(already) == {f"sample-{number}" for number in range(4)}
    items = [push_item(number) for number in range(7)]
    pushed = list(push_tasks(client, project, items, already=already))
    assert [task.sample_key for task in pushed if task.created] == ["sample-4", "sample-5", "sample-6"]
    assert len(pushed) == client.project(project)["task_number"] == 7


def test_another_round_pushes_a_sample_again(client: LabelStudio, project: int) -> None:
    list(push_tasks(client, project, [push_item(0)], already={}))
    assert pushed_tasks(client, project, 2) == {}
    list(push_tasks(client, project, [push_item(0, round_number=2)], already={}))
    assert len(pushed_tasks(client, project, 1)) == len(pushed_tasks(client, project, 2)) == 1


def test_a_large_image_ends_its_batch(
    client: LabelStudio, project: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "BATCH_BYTES", 1)
    done: list[int] = []
    list(push_tasks(client, project, [push_item(0), push_item(1)], already={}, progress=done.append))
    assert done == [1, 2]


def test_images_go_into_the_tasks_where_label_studio_takes_no_uploads(client: LabelStudio) -> None:
    config = """<View><Image name="film" value="$film"/><Image name="earlier" value="$earlier"/>
      <BrushLabels name="mask" toName="film"><Label value="Irrelevant"/></BrushLabels></View>"""
    project = client.create_project("two images", config, "")
    assert not read_label_config(config, image="film").takes_uploads
    item = replace(push_item(1), data={**SHOWN, "earlier": ""})
    list(push_tasks(client, project, [item], already={}, image_key="film", inline=True))
    [task] = client.tasks(project)
    assert client.download(task["data"]["film"]) == png(seed=1)
