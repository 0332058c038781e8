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
    """Drag a rectangle with the smart tool; what Label Studio asked the ML backend, and its answer."""
    page = editor.page
    editor.select_label("Irrelevant")
    page.locator(".lsf-tool_smart").first.click()
    box = editor.image_box()
    with page.expect_response("**/interactive-annotating", timeout=60_000) as answer:
        page.mouse.move(*box.to_page((0.2, 0.2)))
        page.mouse.down()
        page.mouse.move(*box.to_page((0.7, 0.7)), steps=10)
        page.mouse.up()
    return {"asked": answer.value.request.post_data_json, "answered": answer.value.json()["data"]}


def test_the_editor_is_answered_without_what_is_drawn(
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
    assert drawn["answered"]["score"] != prediction["score"]
    editor.submit()
    assert class_in(label_studio, first) is None  # a suggestion, which nobody has touched

    editor.open_task(project, second)
    [chosen] = draw_smartly(editor)["answered"]["result"]
    [other] = {"normal", "lesion"} - set(chosen["value"]["choices"])
    editor.choose(other)
    editor.submit()
    assert class_in(label_studio, second) == other


def class_in(label_studio: RunningLabelStudio, task: int) -> str | None:
    return class_of(label_studio.ask(f"/api/tasks/{task}/"), "class", SeveralAnnotators.MAJORITY)
