"""The real editor: what a clinician sees, paints and chooses, and what we read of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from support.browser import Editor, Stroke
from support.push import png, push_item
from support.strokes import assert_is_painted

from imil_backend.label_studio.api.client import LabelStudio
from imil_backend.label_studio.api.predictions import (
    change_prediction,
    latest_prediction,
    put_predictions,
    show_predictions,
)
from imil_backend.label_studio.api.simulated_clinician import paint
from imil_backend.label_studio.api.tasks import push_tasks
from imil_backend.label_studio.labeling.annotations import (
    Reading,
    begins_with_a_prediction,
    read_annotation,
)
from imil_backend.label_studio.labeling.answers import Answer
from imil_backend.label_studio.labeling.brush_regions import brush_region
from imil_backend.label_studio.labeling.label_config import load_label_config, read_label_config
from imil_backend.loop.projects.guide import keep_page

pytestmark = [pytest.mark.label_studio, pytest.mark.browser]

MAPPING = read_label_config(load_label_config("blackout"))
WIDTH, HEIGHT = 320, 240
STROKES: list[Stroke] = [[(0.2, 0.25), (0.8, 0.25)], [(0.3, 0.4), (0.3, 0.8)]]
MakeEditor = Callable[[], Editor]


@pytest.fixture
def task_ids(client: LabelStudio, project: int) -> list[int]:
    items = [push_item(number, read=lambda: png(WIDTH, HEIGHT)) for number in range(2)]
    return [task.task_id for task in push_tasks(client, project, items, already={})]


def read(client: LabelStudio, annotation_id: int) -> Reading:
    annotation = client.annotation(annotation_id)
    assert annotation is not None
    return read_annotation(annotation, MAPPING, WIDTH, HEIGHT)


def test_what_is_painted_is_what_is_read(
    client: LabelStudio, project: int, task_ids: list[int], browser_page: MakeEditor
) -> None:
    editor = browser_page()
    editor.open_task(project, task_ids[0])
    editor.select_label("Irrelevant")
    box = editor.paint(STROKES)
    reading = read(client, editor.submit()["id"])
    assert reading.answer is Answer.BLACKOUT
    assert_is_painted(reading.mask, STROKES, box)


def test_the_clinician_sees_label_prediction_and_confidence(
    project: int, task_ids: list[int], browser_page: MakeEditor
) -> None:
    editor = browser_page()
    editor.open_task(project, task_ids[0])
    assert editor.page.get_by_text("sick", exact=True).is_visible()
    assert editor.page.get_by_text("healthy", exact=True).is_visible()
    assert editor.page.get_by_text("83 %", exact=True).is_visible()


def test_an_empty_answer_cannot_be_submitted_and_a_choice_can(
    client: LabelStudio, project: int, task_ids: list[int], browser_page: MakeEditor
) -> None:
    editor = browser_page()
    editor.open_task(project, task_ids[0])
    submit = editor.page.locator('[data-testid="bottombar-submit-button"]')
    assert submit.is_disabled()
    editor.choose("The label is wrong")
    assert read(client, editor.submit()["id"]).answer is Answer.LABEL_WRONG


def test_the_label_stream_shows_the_instructions_and_skips(
    client: LabelStudio, project: int, task_ids: list[int], browser_page: MakeEditor
) -> None:
    editor = browser_page()
    editor.open_label_stream(project)
    assert editor.read_instructions() == "Paint the marker."
    editor.select_label("Irrelevant")
    editor.paint(STROKES[:1])
    skipped = editor.skip()
    assert skipped["task"] == task_ids[0], "the first one pushed is the first one shown"
    assert read(client, skipped["id"]).answer is Answer.SKIPPED


PICTURES_SHOWN = "() => [...document.querySelectorAll('.lsf-modal-ls__body img')].map(i => i.naturalWidth)"


def test_a_page_in_german_is_worked_by_keys_and_read_the_same(
    client: LabelStudio, browser_page: MakeEditor
) -> None:
    german = client.create_project("Deutsch", load_label_config("blackout", "de", ["sick", "healthy"]), "")
    keep_page(client, german, "de", ["sick", "healthy"])
    items = [push_item(number, read=lambda: png(WIDTH, HEIGHT)) for number in range(2)]
    list(push_tasks(client, german, items, already={}))
    editor = browser_page()
    editor.open_label_stream(german)
    editor.page.wait_for_function(f"() => ({PICTURES_SHOWN})().filter(Boolean).length === 3")
    assert "Übermalen Sie nie den Befund" in editor.read_instructions()
    editor.page.keyboard.press("4")  # a box around what is relevant
    editor.drag((0.25, 0.25), (0.75, 0.75))
    reading = read(client, editor.submit()["id"])
    inside = np.zeros((HEIGHT, WIDTH), bool)
    inside[HEIGHT // 4 : 3 * HEIGHT // 4, WIDTH // 4 : 3 * WIDTH // 4] = True
    assert (reading.answer, reading.outside) == (Answer.BLACKOUT, True)
    assert (reading.mask == inside).mean() < 0.02  # but for the box's edge
    editor.next_task()
    editor.page.keyboard.press("1")  # whatever the last image's tool was, which Label Studio keeps
    editor.paint(STROKES[:1])
    editor.page.keyboard.press("9")
    editor.page.get_by_text("Es ist etwas gemalt").wait_for()
    editor.page.keyboard.press("Backspace")
    assert read(client, editor.submit()["id"]).answer is Answer.UNREADABLE


def test_a_proposed_mask_is_accepted_corrected_or_rejected(
    client: LabelStudio, project: int, browser_page: MakeEditor
) -> None:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[40:120, 40:200] = True
    prediction = {
        "result": [brush_region(MAPPING, mask, "proposed")],
        "score": 0.9,
        "model_version": "version-1",
    }
    items = [
        replace(push_item(number, read=lambda: png(WIDTH, HEIGHT)), prediction=prediction)
        for number in range(5)
    ]
    first, second, third, fourth, fifth = [
        task.task_id for task in push_tasks(client, project, items, already={})
    ]
    moved = {**prediction, "result": [brush_region(MAPPING, ~mask, "proposed")], "model_version": "version-2"}
    for _ in range(2):  # it is replaced, and nothing is piled up
        put = put_predictions(
            client, project, {second: moved}, without=(), versions=("version-1", "version-2")
        )
        assert list(put) == [second]
    assert len(client.request("GET", "/api/predictions/", params={"task": second})) == 1
    show_predictions(client, project, "version-1")

    editor = browser_page()
    editor.open_label_stream(project)
    editor.read_instructions()
    editor.wait_for_regions(1)
    with editor.saving() as saved:
        editor.page.keyboard.press("Control+Enter")
    accepted = saved()
    assert accepted["task"] == first
    assert begins_with_a_prediction(accepted)
    assert np.array_equal(read(client, accepted["id"]).mask, mask)

    editor.open_task(project, third)
    editor.wait_for_regions(1)
    editor.select_region("Irrelevant")
    editor.page.keyboard.press("Backspace")
    editor.wait_for_regions(0)
    editor.choose("Nothing to black out")
    rejected = editor.submit()
    assert begins_with_a_prediction(rejected)
    assert read(client, rejected["id"]).answer is Answer.NOTHING

    # Taken away while the editor shows it, and before.
    editor.open_task(project, fourth)
    editor.wait_for_regions(1)
    for task in (fourth, fifth):
        there = latest_prediction(client, task, ("version-1",))
        assert there is not None
        change_prediction(client, int(there["id"]), {**prediction, "result": []})
    begun = editor.submit()
    assert begins_with_a_prediction(begun)
    assert np.array_equal(read(client, begun["id"]).mask, mask)
    editor.open_task(project, fifth)
    editor.wait_for_regions(0)

    show_predictions(client, project, "version-2")
    editor.open_task(project, second)
    editor.wait_for_regions(1)
    editor.select_region("Irrelevant")
    editor.use_tool("eraser")
    editor.paint(STROKES[1:], counts=False)
    corrected = editor.submit()
    assert begins_with_a_prediction(corrected)
    reading = read(client, corrected["id"])
    assert reading.mask is not None
    assert not reading.mask[120:180, 95:97].any()  # along the stroke
    assert reading.mask.sum() < (~mask).sum()


def test_class_evidence_is_shown_on_demand_and_is_no_part_of_the_answer(
    client: LabelStudio, browser_page: MakeEditor
) -> None:
    number = client.create_project("Evidence", load_label_config("blackout", evidence=True), "")
    item = replace(push_item(0, read=lambda: png(WIDTH, HEIGHT)), beside=png(64, 48))
    [task] = push_tasks(client, number, [item], already={})
    editor = browser_page()
    editor.open_task(number, task.task_id)
    picture = editor.page.locator(".imil-evidence img")
    assert not picture.is_visible()
    editor.page.get_by_text("What the model looked at").click()
    editor.page.wait_for_function("() => document.querySelector('.imil-evidence img').naturalWidth === 64")
    assert picture.is_visible()
    editor.select_label("Irrelevant")
    box = editor.paint(STROKES)
    annotation = editor.submit()
    assert [each["from_name"] for each in annotation["result"]] == ["mask"]
    assert_is_painted(read(client, annotation["id"]).mask, STROKES, box)


def test_the_simulated_clinicians_mask_shows_in_the_editor_and_survives_an_update(
    client: LabelStudio, project: int, task_ids: list[int], browser_page: MakeEditor
) -> None:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[150:200, 40:200] = True
    annotation_id = paint(client, MAPPING, task_ids[0], mask)
    editor = browser_page()
    editor.open_task(project, task_ids[0])
    editor.page.wait_for_function("() => window.Htx.annotationStore.selected.regions.length === 1")
    editor.choose("The label is wrong")
    editor.update()
    reading = read(client, annotation_id)
    assert reading.answer is Answer.LABEL_WRONG
    assert np.array_equal(reading.mask, mask)
