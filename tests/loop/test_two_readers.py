"""Two people read the same tasks in the real Label Studio."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from loop_fakes import make_backend, make_dataset, make_version, mask_of, region, write_image
from sqlalchemy import select
from support.browser import VIEWPORT, Editor
from support.label_studio import RunningLabelStudio
from support.people import Person, join

from imil_backend.label_studio.labeling.label_config import load_label_config
from imil_backend.loop.answers.reconcile import reconcile
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.policy import change_policy
from imil_backend.loop.base.states import CLOSED
from imil_backend.loop.rounds import lifecycle
from imil_backend.loop.rounds.lifecycle import Answered, change_state
from imil_backend.loop.rounds.push import push_round
from imil_backend.store.tables import Dataset, Project, Round, Sample, Task

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.label_studio, pytest.mark.timeout(600)]

Reader = RunningLabelStudio | Person
OWN_ANNOTATIONS = "() => window.Htx.annotationStore.annotations.map(each => each.user?.id ?? null)"
TASK_SHOWN = "() => window.Htx.task.id"


class Reading:
    """A dataset of four mispredictions, two a round, with a project in the real Label Studio."""

    def __init__(self, backend: Backend, label_studio: RunningLabelStudio) -> None:
        self.backend, self.label_studio = backend, label_studio
        self.dataset = make_dataset(backend)
        with backend.store.begin() as session:
            for sample in session.scalars(select(Sample)):
                sample.name += ".png"  # Label Studio takes no file without
        make_version(backend, self.dataset, wrong=[f"train-{number}" for number in range(4)])
        self.number = label_studio.client.create_project("Readers", load_label_config("blackout"), "")
        with backend.store.begin() as session:
            session.add(
                Project(dataset_id=self.dataset.id, instance=label_studio.url, label_studio_id=self.number)
            )

    @property
    def project(self) -> Project:
        with self.backend.store.begin() as session:
            return session.scalars(select(Project)).one()

    @property
    def maximum_annotations(self) -> int:
        return int(self.label_studio.client.project(self.number)["maximum_annotations"])

    def push(self, **changes: Any) -> list[int]:
        """Open a round, or go on with the open one; its tasks, the first rank first."""
        with self.backend.store.begin() as session:
            dataset = session.get_one(Dataset, self.dataset.id)
            change_policy(dataset, {"budget": 0.25, **changes})
            round_ = lifecycle.open_round(session, dataset)
        push_round(self.backend, round_.id)
        with self.backend.store.begin() as session:
            return list(
                session.scalars(
                    select(Task.label_studio_id).where(Task.round_id == round_.id).order_by(Task.rank)
                )
            )

    def answered(self) -> Answered:
        reconcile(self.backend, self.project)
        with self.backend.store.begin() as session:
            round_ = lifecycle.latest_round(session, self.dataset.id)
            assert round_ is not None
            return lifecycle.answered(session, round_)

    def close(self) -> None:
        with self.backend.store.begin() as session:
            for round_ in session.scalars(select(Round)):
                change_state(round_, CLOSED)

    def next_for(self, reader: Reader) -> tuple[int | None, int]:
        """The task that the label stream gives somebody, and how many annotations come with it."""
        answer = reader.request("GET", f"/api/projects/{self.number}/next")
        if answer.status_code == 404:
            return None, 0
        answer.raise_for_status()
        task = answer.json()
        return task["id"], len(task["annotations"])

    def paint(self, reader: Reader, task: int, *columns: int) -> None:
        body = {"result": region(mask_of(*columns)), "lead_time": 1.0}
        reader.request("POST", f"/api/tasks/{task}/annotations/", json=body).raise_for_status()


@pytest.fixture
def reading(tmp_path: Path, real_label_studio: RunningLabelStudio) -> Iterator[Reading]:
    backend = make_backend(
        tmp_path, label_studio_url=real_label_studio.url, label_studio_api_key=real_label_studio.api_key
    )
    yield Reading(backend, real_label_studio)
    backend.close()


@pytest.fixture(scope="module")
def second(real_label_studio: RunningLabelStudio) -> Person:
    return join(real_label_studio)


def test_the_second_reader_gets_the_task_and_does_not_see_the_first_ones_answer(
    reading: Reading, second: Person
) -> None:
    first = reading.label_studio
    one, other = reading.push(readers=2)
    assert reading.maximum_annotations == 2
    reading.paint(first, one, 1, 2)
    assert reading.answered() == Answered(tasks=2, answered=0, begun=1)
    assert reading.next_for(second) == (one, 0)
    assert reading.next_for(first) == (other, 0)
    reading.paint(second, one, 2, 3)
    assert reading.answered() == Answered(tasks=2, answered=1, begun=1)
    assert reading.next_for(second) == (other, 0)
    with reading.backend.store.begin() as session:
        agreement = session.scalars(select(Sample.agreement).where(Sample.agreement.is_not(None))).all()
    assert agreement == [0.5]


def test_the_number_of_readers_may_change_while_a_round_is_open(reading: Reading, second: Person) -> None:
    for task in (tasks := reading.push()):
        reading.paint(reading.label_studio, task, 1)
    assert (reading.maximum_annotations, reading.next_for(second)) == (1, (None, 0))
    assert reading.answered() == Answered(2, 2, 2)
    assert reading.push(readers=2) == tasks
    assert reading.answered() == Answered(2, 0, 2)
    assert reading.next_for(second)[0] in tasks
    assert reading.push(readers=1) == tasks
    assert (reading.maximum_annotations, reading.next_for(second)) == (1, (None, 0))


def test_a_change_between_rounds_asks_nobody_for_the_tasks_of_earlier_ones(
    reading: Reading, second: Person
) -> None:
    for task in reading.push():
        reading.paint(reading.label_studio, task, 1)
    reading.close()
    one, other = reading.push(readers=2)
    assert reading.maximum_annotations == 2
    for _ in range(2):
        task, _ = reading.next_for(second)
        assert task in {one, other}
        reading.paint(second, task, 1)
    assert reading.next_for(second) == (None, 0)


def test_a_teams_project_keeps_its_setting_and_its_own_tasks_are_not_opened_again(
    reading: Reading, second: Person
) -> None:
    with reading.backend.store.begin() as session:
        session.scalars(select(Project)).one().connected = {}
    image = write_image(reading.backend.path("theirs.png")).read_bytes()
    path = reading.label_studio.client.upload_image(reading.number, "theirs.png", image)
    fields = dict.fromkeys(("label", "predicted", "confidence", "note", "round"), "")
    [theirs] = reading.label_studio.client.import_tasks(reading.number, [{"data": {"image": path, **fields}}])
    reading.paint(reading.label_studio, theirs, 1)
    one, other = reading.push(readers=2)
    assert reading.maximum_annotations == 1
    for task in (one, other):
        reading.paint(reading.label_studio, task, 1)
    assert reading.next_for(second) == (one, 0)
    for task in (one, other):
        reading.paint(second, task, 1)
    assert reading.answered() == Answered(2, 2, 2)
    assert reading.next_for(second) == (None, 0)


@pytest.fixture
def page_of(browser: Browser) -> Iterator[Callable[[Person], Editor]]:
    contexts = []

    def make(person: Person) -> Editor:
        contexts.append(browser.new_context(viewport=VIEWPORT))  # type: ignore[arg-type]
        editor = Editor(contexts[-1].new_page(), person.label_studio)
        editor.log_in()
        return editor

    yield make
    for context in contexts:
        context.close()


@pytest.mark.browser
def test_the_label_stream_is_blind_in_the_browser_and_the_list_is_not(
    reading: Reading, second: Person, page_of: Callable[[Person], Editor]
) -> None:
    """The second half is what docs/operations.md warns of: the free Label Studio has no setting for it."""
    one, _ = reading.push(readers=2)
    reading.paint(reading.label_studio, one, 1, 2)
    editor = page_of(second)
    editor.open_label_stream(reading.number)
    assert editor.page.evaluate(TASK_SHOWN) == one
    [annotation] = next(reading.label_studio.client.whole_tasks(reading.number))["annotations"]
    first_reader = annotation["completed_by"]
    assert first_reader not in editor.page.evaluate(OWN_ANNOTATIONS)
    editor.open_task(reading.number, one)
    assert first_reader in editor.page.evaluate(OWN_ANNOTATIONS)
