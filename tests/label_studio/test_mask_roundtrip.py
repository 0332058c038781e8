"""A mask that we encode shows in the real editor, and comes back unchanged when it is submitted."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter
from support.browser import Editor, ImageBox
from support.push import png

from imil_backend.images.masks.masks import LabelMapping, annotation_mask, encode_rle
from imil_backend.label_studio.api.client import LabelStudio

pytestmark = [pytest.mark.label_studio, pytest.mark.browser]

WIDTH, HEIGHT = 640, 480
TOOLS = ("Brush", "Bitmask", "Rectangle", "Ellipse", "Polygon")
STYLE = 'fillOpacity="0.8" opacity="0.9"'
CONFIG = (
    '<View><Image name="image" value="$image"/>'
    + "".join(
        f'<{tool}Labels name="{tool}" toName="image" {STYLE}><Label value="Irrelevant" background="#ff0000"/>'
        f"</{tool}Labels>"
        for tool in TOOLS
    )
    + "</View>"
)
MAPPING = LabelMapping("image", frozenset(TOOLS), frozenset({"Irrelevant"}))


def ring() -> np.ndarray:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    distance = np.hypot((columns - 260) / 200, (rows - 250) / 120)
    return (distance < 1) & (distance > 0.4)


def transparent_png(mask: np.ndarray) -> str:
    pixels = np.zeros((*mask.shape, 4), np.uint8)
    pixels[..., 3] = np.where(mask, 255, 0)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


VALUES: dict[str, dict[str, Any]] = {
    "Brush": {"format": "rle", "rle": encode_rle(np.where(ring(), 255, 0).astype(np.uint8))},
    "Bitmask": {"imageDataURL": transparent_png(ring())},
    "Rectangle": {"x": 40, "y": 20, "width": 35, "height": 20, "rotation": 30},
    "Ellipse": {"x": 45, "y": 50, "radiusX": 30, "radiusY": 12, "rotation": 40},
    "Polygon": {"points": [[20, 20], [80, 30], [30, 80], [50, 10], [70, 85]], "closed": True},
}


def region(tool: str) -> dict[str, Any]:
    kind = f"{tool.lower()}labels"
    return {
        "id": "region-1",
        "type": kind,
        "from_name": tool,
        "to_name": "image",
        "original_width": WIDTH,
        "original_height": HEIGHT,
        "image_rotation": 0,
        "value": {**VALUES[tool], kind: ["Irrelevant"]},
    }


def red_pixels(screenshot: bytes, box: ImageBox) -> np.ndarray:
    """Where the shown image is red, resized to its natural size; the image itself is grey."""
    page = Image.open(io.BytesIO(screenshot)).convert("RGB")
    shown = page.crop((round(box.x), round(box.y), round(box.x + box.width), round(box.y + box.height)))
    colours = np.asarray(shown.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)).astype(int)
    red: np.ndarray = colours[..., 0] - colours[..., 1] > 40
    return red


def away_from_edges(mask: np.ndarray) -> np.ndarray:
    """Pixels more than four from the mask's outline; and not under the tools at the right."""
    image = Image.fromarray(mask).convert("L")
    inside = np.asarray(image.filter(ImageFilter.MinFilter(9))) > 0
    outside = np.asarray(image.filter(ImageFilter.MaxFilter(9))) == 0
    return (inside | outside) & (np.arange(WIDTH) < 0.92 * WIDTH)


@pytest.fixture(scope="module")
def brush_project(label_studio: Any) -> int:
    client: LabelStudio = label_studio.client
    return client.create_project("mask round trip", CONFIG, "")


@pytest.mark.parametrize("tool", TOOLS)
def test_an_encoded_mask_shows_and_comes_back_unchanged(
    tool: str, client: LabelStudio, brush_project: int, browser_page: Callable[[], Editor]
) -> None:
    sent = region(tool)
    expected = annotation_mask([sent], MAPPING, WIDTH, HEIGHT)
    editor = browser_page()
    editor.open_task(brush_project, import_with_prediction(client, brush_project, sent))
    editor.page.wait_for_function("() => window.Htx?.annotationStore?.selected?.regions?.length === 1")

    judged = away_from_edges(expected)
    agreement = 0.0
    for _ in range(40):  # the editor draws masks when it finds the time
        shown = red_pixels(editor.page.screenshot(), editor.image_box())
        agreement = float((shown == expected)[judged].mean())
        if agreement > 0.999:
            break
        editor.page.wait_for_timeout(250)
    assert agreement > 0.999

    [returned] = editor.submit()["result"]
    assert returned["value"] == sent["value"]
    assert np.array_equal(annotation_mask([returned], MAPPING, WIDTH, HEIGHT), expected)


def import_with_prediction(client: LabelStudio, project: int, sent: Mapping[str, Any]) -> int:
    grey = Image.open(io.BytesIO(png(WIDTH, HEIGHT))).point(lambda value: 60 + value // 4)
    buffer = io.BytesIO()
    grey.save(buffer, "PNG")
    task = {
        "data": {"image": client.upload_image(project, "image.png", buffer.getvalue())},
        "predictions": [{"model_version": "v1", "score": 0.5, "result": [sent]}],
    }
    [task_id] = client.import_tasks(project, [task])
    return task_id
