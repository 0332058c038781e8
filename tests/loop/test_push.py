from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from loop_fakes import PROJECT, FakeLabelStudio, make_dataset, make_project, make_version, write_image
from sqlalchemy import select

from imil_backend.errors import LabelStudioUnreachableError, RoundError
from imil_backend.learning.contract.training_job import read_json
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.states import FAILED, OPEN, PUSHING
from imil_backend.loop.rounds import lifecycle
from imil_backend.loop.rounds.push import push_round
from imil_backend.loop.versions import mispredictions
from imil_backend.loop.versions.champions import promote
from imil_backend.store.tables import Dataset, Project, Round, Sample, SetAside, Task

WRONG = [f"train-{number}" for number in (5, 3, 8, 1)]


@pytest.fixture
def mined(backend: Backend) -> Dataset:
    """Forty training samples, four of them wrong, and a budget of four."""
    dataset = make_dataset(backend, train=40)
    make_version(backend, dataset, wrong=WRONG)
    make_project(backend, dataset)
    set_budget(backend, 0.1)
    return dataset


def set_budget(backend: Backend, budget: float) -> None:
    with backend.store.begin() as session:
        session.get_one(Dataset, 1).policy = {"budget": budget}


@pytest.fixture
def round_id(backend: Backend, mined: Dataset) -> int:
    with backend.store.begin() as session:
        return lifecycle.open_round(session, mined).id


def tasks(backend: Backend) -> list[tuple[str, int]]:
    with backend.store.begin() as session:
        found = session.scalars(select(Task).order_by(Task.label_studio_id))
        return [(task.sample.name, task.label_studio_id) for task in found]


def state(backend: Backend, round_id: int) -> str:
    with backend.store.begin() as session:
        return session.get_one(Round, round_id).state


def sample_of(backend: Backend, name: str) -> Sample:
    with backend.store.begin() as session:
        return session.scalars(select(Sample).where(Sample.name == name)).one()


def test_the_most_instructive_become_tasks_that_say_what_the_clinician_needs(
    backend: Backend, label_studio: FakeLabelStudio, round_id: int
) -> None:
    seen: list[tuple[int, int]] = []
    assert push_round(backend, round_id, lambda *step: seen.append(step)) == 4
    assert seen == [(4, 4)]
    assert [name for name, _ in tasks(backend)] == WRONG
    data = label_studio.tasks_there[tasks(backend)[0][1]]["data"]
    assert data["image"].startswith(f"/data/upload/{PROJECT}/")
    wanted = {"label": "normal", "predicted": "lesion", "confidence": "90%", "round": 1, "note": ""}
    assert {name: data[name] for name in wanted} == wanted
    assert state(backend, round_id) == OPEN


def test_pushing_again_creates_nothing(
    backend: Backend, label_studio: FakeLabelStudio, round_id: int
) -> None:
    push_round(backend, round_id)
    label_studio.asked.clear()
    assert push_round(backend, round_id) == 4
    assert label_studio.asked == []


def test_a_round_that_was_given_up_while_it_was_pushed_is_not_opened(
    backend: Backend, label_studio: FakeLabelStudio, mined: Dataset, round_id: int
) -> None:
    with backend.store.begin() as session:
        session.get_one(Round, round_id).error = "Label Studio was down; the push was put off."

    def give_up(done: int, of: int) -> None:
        if done == of:
            with backend.store.begin() as session:
                lifecycle.begin_baseline(session, mined)

    with pytest.raises(RoundError, match="cancelled for a new baseline"):
        push_round(backend, round_id, give_up)
    assert state(backend, round_id) == FAILED


@pytest.mark.parametrize("budget", [0.1, 0.05])
@pytest.mark.parametrize("recorded", [True, False])
def test_an_interrupted_push_goes_on(
    backend: Backend,
    label_studio: FakeLabelStudio,
    round_id: int,
    monkeypatch: pytest.MonkeyPatch,
    recorded: bool,
    budget: float,
) -> None:
    """Two tasks of four are in Label Studio, and in the store or not; the budget may have become less."""
    monkeypatch.setattr("imil_backend.label_studio.api.tasks.BATCH_ITEMS", 2)
    if recorded:
        patched, upload, calls = "upload_images", label_studio.upload_images, iter([False, True])
    else:
        patched, upload, calls = "import_tasks", label_studio.import_tasks, iter([True])

    def interrupted(*arguments: Any) -> Any:
        if next(calls) and recorded:
            raise LabelStudioUnreachableError("cut off")
        done = upload(*arguments)
        if not recorded:
            raise LabelStudioUnreachableError("Label Studio did it, but the answer was lost")
        return done

    with monkeypatch.context() as patch:
        patch.setattr(label_studio, patched, interrupted)
        with pytest.raises(LabelStudioUnreachableError):
            push_round(backend, round_id)
    assert (len(tasks(backend)), len(label_studio.tasks_there)) == (2 if recorded else 0, 2)
    assert state(backend, round_id) == PUSHING

    set_budget(backend, budget)
    push_round(backend, round_id)
    asked = [task["data"]["imil_sample"] for task in label_studio.tasks_there.values()]
    assert asked == [f"key-{name}" for name in WRONG[: 4 if budget == 0.1 else 2]]
    assert [f"key-{name}" for name, _ in tasks(backend)] == asked


def test_an_interrupted_push_keeps_to_the_version_that_it_began_with(
    backend: Backend, mined: Dataset, round_id: int
) -> None:
    newer = make_version(backend, mined, "newer", wrong=["train-20"], champion=False)
    with backend.store.begin() as session:
        promote(session, newer, "person")
    push_round(backend, round_id)
    assert [name for name, _ in tasks(backend)] == WRONG


def test_an_image_that_is_gone_or_another_one_now_is_set_aside_and_the_rest_is_pushed(
    backend: Backend, round_id: int
) -> None:
    Path(sample_of(backend, WRONG[1]).path).unlink()
    write_image(Path(sample_of(backend, WRONG[2]).path), 200)
    assert push_round(backend, round_id) == 2
    with backend.store.begin() as session:
        assert [row.reference for row in session.scalars(select(SetAside))] == WRONG[1:3]


def test_a_round_none_of_whose_images_can_be_read_is_not_opened(backend: Backend, round_id: int) -> None:
    for name in WRONG:
        Path(sample_of(backend, name).path).write_bytes(b"")
    with pytest.raises(RoundError, match="None of the images"):
        push_round(backend, round_id)
    assert state(backend, round_id) == PUSHING


def test_what_a_browser_cannot_show_is_pushed_as_png(
    backend: Backend, label_studio: FakeLabelStudio, round_id: int
) -> None:
    with backend.store.begin() as session:
        for sample in session.scalars(select(Sample)):
            sample.shown_as_is = False
    push_round(backend, round_id)
    assert label_studio.tasks_there[101]["data"]["image"].endswith(".png")


def test_a_command_and_the_worker_never_push_the_same_round_at_once(
    backend: Backend, label_studio: FakeLabelStudio, round_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload, uploading, go_on = label_studio.upload_images, threading.Event(), threading.Event()

    def slow(*arguments: Any) -> Any:
        uploading.set()
        assert go_on.wait(10)
        return upload(*arguments)

    monkeypatch.setattr(label_studio, "upload_images", slow)
    pushes = [threading.Thread(target=push_round, args=(backend, round_id)) for _ in range(2)]
    pushes[0].start()
    assert uploading.wait(10)
    pushes[1].start()
    go_on.set()
    for push in pushes:
        push.join(10)
    assert len(label_studio.tasks_there) == 4


def test_without_a_project_it_says_what_to_do(backend: Backend, round_id: int) -> None:
    with backend.store.begin() as session:
        session.delete(session.get_one(Project, 1))
    with pytest.raises(RoundError, match="imil push"):
        push_round(backend, round_id)


def test_a_push_reads_and_ranks_what_was_mined_once(
    backend: Backend, mined: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    monkeypatch.setattr(mispredictions, "read_json", lambda path: read.append(path) or read_json(path))
    with backend.store.begin() as session:  # as `imil push` does
        mined = session.get_one(Dataset, mined.id)
        assert mispredictions.next_mispredictions(session, mined)
        lifecycle.round_to_push(session, mined)
    with backend.store.begin() as session:
        round_ = lifecycle.open_round(session, mined)
    assert push_round(backend, round_.id) == 4
    assert len(read) == 1
    newer = make_version(backend, mined, "newer", wrong=["train-20"])
    with backend.store.begin() as session:
        [asked] = mispredictions.next_mispredictions(session, mined)
    assert (asked.sample.name, len(read)) == ("train-20", 2)
    assert read[1].parent == Path(newer.directory)
