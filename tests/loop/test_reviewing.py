"""Two readers, a reviewer and a gold task in one project of the real Label Studio."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from loop_fakes import MAPPING, make_backend, make_dataset, make_version, write_image, write_mask
from sqlalchemy import select
from support.browser import VIEWPORT, Editor
from support.label_studio import RunningLabelStudio
from support.people import Person, join

from imil_backend.label_studio.labeling.brush_regions import brush_region
from imil_backend.label_studio.labeling.label_config import load_label_config
from imil_backend.label_studio.labeling.words import words_of
from imil_backend.loop.answers.reconcile import reconcile
from imil_backend.loop.answers.sample_states import load_mask, sample_states, standing_answers
from imil_backend.loop.asking.gold import gold_figures
from imil_backend.loop.asking.reviews import push_reviews
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.policy import change_policy
from imil_backend.loop.base.states import Purpose
from imil_backend.loop.rounds import lifecycle
from imil_backend.loop.rounds.push import push_round
from imil_backend.store.tables import Dataset, Project, Sample, Task

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.label_studio, pytest.mark.browser, pytest.mark.timeout(600)]

WIDTH, HEIGHT = 400, 300  # pixels, wide enough to be painted by hand
OWN_ANNOTATIONS = "() => window.Htx.annotationStore.annotations.map(each => each.user?.id ?? null)"
WORDS = words_of("en")


def left(share: float) -> npt.NDArray[np.bool_]:
    """A mask of the left part."""
    return np.broadcast_to(np.arange(WIDTH) < share * WIDTH, (HEIGHT, WIDTH))


class Scene:
    """Two samples are asked of two readers; of a third one the mask is known."""

    def __init__(self, backend: Backend, label_studio: RunningLabelStudio) -> None:
        self.backend, self.label_studio = backend, label_studio
        dataset = make_dataset(backend)
        make_version(backend, dataset, wrong=[f"train-{number}" for number in range(3)])
        config = load_label_config("blackout")
        self.number = label_studio.client.create_project("Review", config, "", predictions=False)
        with backend.store.begin() as session:
            for sample in session.scalars(select(Sample)):
                path = write_image(Path(sample.path), sample.id, (WIDTH, HEIGHT))
                sample.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
                sample.width, sample.height, sample.name = WIDTH, HEIGHT, sample.name + ".png"
            known = session.scalars(select(Sample).where(Sample.name == "train-2.png")).one()
            known.clinician_mask = str(write_mask(backend.path("known.png"), left(0.5)))
            known.clinician_mask_means = "irrelevant"
            session.add(
                Project(dataset_id=dataset.id, instance=label_studio.url, label_studio_id=self.number)
            )
            policy = {"budget": 0.25, "readers": 2, "gold_share": 0.5}
            change_policy(session.get_one(Dataset, dataset.id), policy)

    @property
    def dataset(self) -> Dataset:
        with self.backend.store.begin() as session:
            return session.get_one(Dataset, 1)

    def push(self) -> None:
        with self.backend.store.begin() as session:
            round_ = lifecycle.open_round(session, session.get_one(Dataset, 1))
        push_round(self.backend, round_.id)

    def tasks(self, purpose: Purpose) -> list[int]:
        with self.backend.store.begin() as session:
            found = select(Task.label_studio_id).where(Task.purpose == purpose.value)
            return list(session.scalars(found.order_by(Task.rank)))

    def reconcile(self) -> None:
        with self.backend.store.begin() as session:
            project = session.scalars(select(Project)).one()
        reconcile(self.backend, project)

    def next_for(self, person: Person) -> dict[str, Any] | None:
        """What the label stream gives somebody."""
        answer = person.request("GET", f"/api/projects/{self.number}/next")
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        return dict(answer.json())

    def paint(self, person: Person, task: int, mask: npt.NDArray[np.bool_]) -> None:
        body = {"result": [brush_region(MAPPING, mask, "painted")], "lead_time": 1.0}
        person.request("POST", f"/api/tasks/{task}/annotations/", json=body).raise_for_status()

    def mask(self, name: str) -> npt.NDArray[np.bool_]:
        """What training takes for irrelevant."""
        with self.backend.store.begin() as session:
            sample = session.scalars(select(Sample).where(Sample.name == name)).one()
            state = sample_states(self.backend, session, session.get_one(Dataset, 1))[sample.id]
        return load_mask(self.backend, state.mask_sha256 or "", sample)


@pytest.fixture
def scene(tmp_path: Path, real_label_studio: RunningLabelStudio) -> Iterator[Scene]:
    backend = make_backend(
        tmp_path, label_studio_url=real_label_studio.url, label_studio_api_key=real_label_studio.api_key
    )
    yield Scene(backend, real_label_studio)
    backend.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport=VIEWPORT)  # type: ignore[arg-type]
    yield context.new_page()
    context.close()


def test_two_readers_a_reviewer_and_a_gold_task(
    scene: Scene, real_label_studio: RunningLabelStudio, page: Page
) -> None:
    one, two, reviewer = (join(real_label_studio) for _ in range(3))
    scene.push()
    (first, second), [gold] = scene.tasks(Purpose.ASKED), scene.tasks(Purpose.GOLD)
    parts = {one: {first: 0.2, second: 0.3, gold: 0.5}, two: {first: 0.8, second: 0.3, gold: 0.25}}
    for reader, own in parts.items():
        for _ in own:
            served = scene.next_for(reader)
            assert served is not None
            assert served["annotations"] == []
            scene.paint(reader, served["id"], left(own[served["id"]]))
        assert scene.next_for(reader) is None
    scene.reconcile()
    assert push_reviews(scene.backend, scene.dataset) == 1
    [review] = scene.tasks(Purpose.REVIEW)
    assert [scene.next_for(person) for person in (one, two, reviewer)] == [None] * 3

    editor = Editor(page, reviewer.label_studio)
    editor.log_in()
    page.goto(f"{real_label_studio.url}/projects/{scene.number}/data")
    page.get_by_text(WORDS["to_review"]).first.click()
    page.get_by_text(WORDS["review_asked"]).click()
    editor.wait_until_shown()
    assert f"task={review}" in page.url
    assert len(page.evaluate(OWN_ANNOTATIONS)) == 1  # a new one: those in dispute are not to be seen
    editor.select_label("Irrelevant")
    editor.paint([[(0.2, 0.5), (0.8, 0.5)]])
    editor.submit()
    page.goto(f"{real_label_studio.url}/projects/{scene.number}/data")
    page.get_by_text(WORDS["to_review"]).first.click()
    page.get_by_text("No tasks found").wait_for()
    scene.reconcile()
    painted = scene.mask("train-0.png")
    assert painted[HEIGHT // 2, WIDTH // 2]
    assert not (painted & left(0.1)).any()  # of what the readers painted, nothing
    assert [scene.next_for(person) for person in (one, two, reviewer)] == [None] * 3
    with scene.backend.store.begin() as session:
        told = gold_figures(scene.backend, session, standing_answers(session, 1, Purpose.GOLD))
    assert sorted(each.dice or 0.0 for each in told.values()) == [pytest.approx(2 / 3), 1.0]

    # Another dispute, and a reviewer who is shown what was answered.
    scene.paint(two, second, left(0.9))
    scene.reconcile()
    with scene.backend.store.begin() as session:
        change_policy(session.get_one(Dataset, 1), {"blind_review": False})
    assert push_reviews(scene.backend, scene.dataset) == 1
    [shown] = set(scene.tasks(Purpose.REVIEW)) - {review}
    editor.open_task(scene.number, shown)
    editor.wait_for_regions(1)
    page.get_by_role("heading", name=WORDS["review_asked"]).wait_for()
    editor.submit()
    scene.reconcile()
    assert (scene.mask("train-1.png") == left(0.9)).all()
