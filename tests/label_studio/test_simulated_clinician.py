from __future__ import annotations

import numpy as np
import pytest
from support.label_configs import classification_config
from support.push import push_item

from imil_backend.errors import LabelConfigError
from imil_backend.label_studio.api.client import LabelStudio
from imil_backend.label_studio.api.simulated_clinician import paint
from imil_backend.label_studio.api.tasks import push_tasks
from imil_backend.label_studio.labeling.annotations import read_annotation
from imil_backend.label_studio.labeling.answers import Answer
from imil_backend.label_studio.labeling.label_config import (
    load_label_config,
    read_label_config,
)

MAPPING = read_label_config(load_label_config("blackout"))


@pytest.mark.label_studio
def test_what_it_paints_is_read_back_exactly(client: LabelStudio, project: int) -> None:
    [task] = push_tasks(client, project, [push_item(1)], already={})
    mask = np.random.default_rng(0).random((48, 64)) < 0.3
    annotation = client.annotation(paint(client, MAPPING, task.task_id, mask, lead_time=12.5))
    assert annotation is not None
    reading = read_annotation(annotation, MAPPING, 64, 48)
    assert reading.answer is Answer.BLACKOUT
    assert np.array_equal(reading.mask, mask)
    assert annotation["lead_time"] == 12.5
    assert annotation["result"][0]["meta"]["text"] == ["simulated clinician"]


@pytest.mark.label_studio
@pytest.mark.parametrize("mask", [None, np.zeros((48, 64), bool)])
def test_without_a_mask_it_chooses_nothing_to_black_out(
    client: LabelStudio, project: int, mask: np.ndarray | None
) -> None:
    [task] = push_tasks(client, project, [push_item(1)], already={})
    annotation = client.annotation(paint(client, MAPPING, task.task_id, mask))
    assert annotation is not None
    assert read_annotation(annotation, MAPPING, 64, 48).answer is Answer.NOTHING


def test_a_project_without_a_brush_is_refused() -> None:
    mapping = read_label_config(classification_config(["a", "b"]))
    nobody = LabelStudio("http://127.0.0.1:1", "token")
    with pytest.raises(LabelConfigError, match="BrushLabels"):
        paint(nobody, mapping, 1, np.ones((2, 2), bool))
    with pytest.raises(LabelConfigError, match="Nothing to black out"):
        paint(nobody, mapping, 1, None)
