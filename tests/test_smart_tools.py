"""Interactive predictions as a clinician gets them: Label Studio's editor asks while she draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.browser import Editor
from support.installation import Installation
from support.label_studio import RunningLabelStudio

from imil_backend.label_studio.labeling.classification import SeveralAnnotators, class_of

pytestmark = [pytest.mark.label_studio, pytest.mark.browser, pytest.mark.training, pytest.mark.timeout(600)]

CONFIG = """<View>
  <Image name="film" value="$image"/>
  <RectangleLabels name="box" toName="film" smart="true"><Label value="Irrelevant"/></RectangleLabels>
  <Choices name="class" toName="film"><Choice value="normal"/><Choice value="lesion"/></Choices>
</View>"""


@pytest.fixture
def project(trained: Installation, label_studio: RunningLabelStudio) -> int:
    """A team's project with a smart tool, connected with predictions; some tasks are pushed to it."""
    number = label_studio.client.create_project("smart", CONFIG, "")
    trained.imil("connect", "--project", str(number), "--predictions")
    trained.imil("push", "--budget", "0.07", "--fill-budget", "--no-next-round")
    label_studio.predictions(max(task["id"] for task in label_studio.client.tasks(number)))
    return number


def draw_smartly(editor: Editor) -> dict[str, Any]:
    """Drag a rectangle over nearly all of the image with the smart tool; what was asked, and the answer.

    What is left of 32 pixels after five strides is the upper left: ResNet-18 hardly sees the middle.
    """
    page = editor.page
    editor.select_label("Irrelevant")
    page.locator(".lsf-tool_smart").first.click()
    box = editor.image_box()
    with page.expect_response("**/interactive-annotating", timeout=60_000) as answer:
        page.mouse.move(*box.to_page((0.05, 0.05)))
        page.mouse.down()
        page.mouse.move(*box.to_page((0.95, 0.95)), steps=10)
        page.mouse.up()
    return {"asked": answer.value.request.post_data_json, "answered": answer.value.json()["data"]}


def test_a_smart_tool_leaves_the_class_as_the_clinician_left_it(
    project: int, label_studio: RunningLabelStudio, browser_page: Callable[[], Editor]
) -> None:
    first, second, _ = sorted(task["id"] for task in label_studio.client.tasks(project))
    editor = browser_page()
    editor.open_task(project, first)
    editor.page.get_by_text("Auto-Annotation").click()
    drawn = draw_smartly(editor)
    [rectangle] = drawn["asked"]["context"]["result"]
    assert rectangle["value"]["rectanglelabels"] == ["Irrelevant"]
    [prediction] = label_studio.ask(f"/api/tasks/{first}/")["predictions"]
    assert drawn["answered"]["score"] != prediction["score"]  # of the image without what is drawn
    editor.submit()
    assert class_in(label_studio, first) is None  # nobody has touched the prediction

    [prediction] = label_studio.predictions(second)
    [chosen] = {"normal", "lesion"} - set(prediction["result"][0]["value"]["choices"])
    editor.open_task(project, second)
    editor.choose(chosen)
    draw_smartly(editor)
    editor.submit()
    assert class_in(label_studio, second) == chosen


def class_in(label_studio: RunningLabelStudio, task: int) -> str | None:
    return class_of(label_studio.ask(f"/api/tasks/{task}/"), "class", SeveralAnnotators.MAJORITY)
