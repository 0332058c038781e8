from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imil_backend.images.masks.masks import encode_rle
from imil_backend.label_studio.labeling.annotations import (
    Reading,
    begins_with_a_prediction,
    read_annotation,
)
from imil_backend.label_studio.labeling.answers import Answer
from imil_backend.label_studio.labeling.label_config import load_label_config, read_label_config

PAYLOADS = Path(__file__).parents[1] / "fixtures" / "payloads"
MAPPING = read_label_config(load_label_config("blackout"))
WIDTH, HEIGHT = 40, 30


def region(mask: np.ndarray, label: str = "Irrelevant") -> dict[str, Any]:
    return {
        "id": "r1",
        "from_name": "mask",
        "to_name": "image",
        "type": "brushlabels",
        "original_width": WIDTH,
        "original_height": HEIGHT,
        "value": {"format": "rle", "rle": encode_rle(mask.astype(np.uint8) * 255), "brushlabels": [label]},
    }


def choice(*values: str) -> dict[str, Any]:
    return {
        "id": "c1",
        "from_name": "review",
        "to_name": "image",
        "type": "choices",
        "value": {"choices": list(values)},
    }


def painted() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[5:10, 3:20] = True
    return mask


def read(*result: object, **fields: object) -> Reading:
    return read_annotation({"result": list(result), **fields}, MAPPING, WIDTH, HEIGHT)


def test_paint_is_a_blackout() -> None:
    reading = read(region(painted()))
    assert reading.answer is Answer.BLACKOUT
    assert np.array_equal(reading.mask, painted())


@pytest.mark.parametrize(
    ("name", "pixels", "answer"),
    [
        ("accepted", 14 * 22, Answer.BLACKOUT),
        ("corrected", 14 * 22 - 16, Answer.BLACKOUT),
        ("rejected", 0, Answer.NOTHING),
    ],
)
def test_recorded_answers_to_a_proposed_mask_are_told_from_painted_ones(
    name: str, pixels: int, answer: Answer
) -> None:
    recorded = json.loads((PAYLOADS / f"annotation_created_proposal_{name}.json").read_text())
    annotation = recorded["json"]["annotation"]
    reading = read_annotation(annotation, MAPPING, 64, 48)
    assert (reading.answer, 0 if reading.mask is None else reading.mask.sum()) == (answer, pixels)
    assert begins_with_a_prediction(annotation)
    assert not begins_with_a_prediction({"result": [region(painted())], "parent_prediction": None})
    bulk = {**annotation, "lead_time": None}
    assert read_annotation(bulk, MAPPING, 64, 48).answer is Answer.SET_ASIDE


def test_relevant_paint_keeps_only_what_is_painted() -> None:
    reading = read(region(painted(), "Relevant"))
    assert np.array_equal(reading.mask, ~painted())


def ring() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[5:25, 5:30] = True
    mask[8:22, 8:27] = False
    return mask


def test_what_is_relevant_and_only_outlined_is_set_aside() -> None:
    reading = read(region(ring(), "Relevant"))
    assert reading.answer is Answer.SET_ASIDE
    assert "Paint over the inside, too" in reading.reason


def test_an_outline_counts_whose_inside_is_irrelevant_on_purpose() -> None:
    inside = np.zeros((HEIGHT, WIDTH), bool)
    inside[8:22, 8:27] = True
    reading = read(region(ring(), "Relevant"), {**region(inside), "id": "r2"})
    assert np.array_equal(reading.mask, ~ring())
    assert np.array_equal(read(region(ring())).mask, ring())  # a film's edge


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        ("nothing_to_black_out", Answer.NOTHING),
        ("label_wrong", Answer.LABEL_WRONG),
        ("unreadable", Answer.UNREADABLE),
    ],
)
def test_a_choice_alone_is_an_answer(value: str, answer: Answer) -> None:
    assert read(choice(value)) == Reading(answer, choice=value)


def test_a_wrong_label_may_be_painted_as_well() -> None:
    reading = read(region(painted()), choice("label_wrong"))
    assert reading.answer is Answer.LABEL_WRONG
    assert np.array_equal(reading.mask, painted())


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ([], "Nothing is painted and nothing is chosen"),
        ([region(np.zeros((HEIGHT, WIDTH), bool))], "Nothing is painted"),
        ([region(painted()), choice("nothing_to_black_out")], "painted although"),
        ([region(painted()), choice("unreadable")], "painted although"),
        ([choice("label_wrong", "unreadable")], "contradictory"),
        ([choice("something else")], "not in the labeling config"),
        ([region(np.ones((HEIGHT, WIDTH), bool))], "Every pixel"),
        ([{**region(painted()), "original_width": 41}], "41"),
        ([{**region(painted()), "value": {"brushlabels": ["Irrelevant"]}}], "r1"),
        (["no region"], "not a list of regions"),
        (None, "not a list of regions"),
    ],
)
def test_what_cannot_be_understood_is_set_aside_with_its_reason(result: object, words: str) -> None:
    reading = read_annotation({"result": result}, MAPPING, WIDTH, HEIGHT)
    assert reading.answer is Answer.SET_ASIDE
    assert reading.mask is None
    assert words in reading.reason


def test_a_choice_that_is_a_text_instead_of_a_list_is_that_choice() -> None:
    text = choice()
    text["value"]["choices"] = "label_wrong"
    reading = read(text, region(painted()))
    assert (reading.answer, reading.choice) == (Answer.LABEL_WRONG, "label_wrong")
    assert "contradictory" in read(text, choice("unreadable")).reason


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (
            [choice("label_wrong", "unreadable")],
            "It has contradictory choices: 'The label is wrong' and 'Unreadable'.",
        ),
        ([region(painted()), choice("nothing_to_black_out")], "although 'Nothing to black out' is chosen"),
    ],
)
def test_a_reason_has_the_words_that_the_clinician_saw(result: list[Any], words: str) -> None:
    assert words in read(*result).reason


def key_point(name: str) -> dict[str, Any]:
    return {**region(painted()), "id": name, "type": "keypointlabels", "from_name": "point",
            "value": {"x": 5, "y": 5, "width": 0.3, "keypointlabels": ["Irrelevant"]}}  # fmt: skip


def test_a_key_point_beside_a_brush_is_named_and_the_brush_counts() -> None:
    reading = read(key_point("k1"), region(painted()))
    assert reading.answer is Answer.BLACKOUT
    assert np.array_equal(reading.mask, painted())
    assert reading.reason.startswith("Ignored, since a key point covers no pixels: 'k1'.")


def test_a_key_point_alone_is_set_aside_and_named() -> None:
    reading = read(key_point("k1"))
    assert (reading.answer, reading.mask) == (Answer.SET_ASIDE, None)
    assert reading.reason.startswith("Nothing is painted and nothing is chosen. Ignored")


def test_a_broken_rle_is_set_aside() -> None:
    broken = region(painted())
    broken["value"]["rle"] = broken["value"]["rle"][:-3]
    assert read(broken, choice("label_wrong")).answer is Answer.SET_ASIDE


def test_a_skipped_annotation_is_skipped_whatever_was_painted() -> None:
    assert read(region(painted()), was_cancelled=True) == Reading(Answer.SKIPPED)


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-200, 200),
    st.floats(),
    st.sampled_from(
        ["", "Irrelevant", "label_wrong", ["Irrelevant"], [["label_wrong"]], [[1, 2], [3, 4], [9, 9]]]
    ),
    st.lists(st.integers(0, 255), max_size=8),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
NAMES = ("x", "y", "width", "height", "rotation", "radiusX", "radiusY", "points", "rle", "imageDataURL",
         "choices", "labels", "brushlabels", "rectanglelabels", "keypointlabels")  # fmt: skip
KINDS = ("brushlabels", "rectanglelabels", "ellipselabels", "polygonlabels", "labels", "keypoint",
         "keypointlabels", "choices", "relation")  # fmt: skip
ITEMS = st.fixed_dictionaries(
    {},
    optional={
        "id": JUNK,
        "type": st.sampled_from(KINDS) | JUNK,
        "from_name": st.sampled_from(["mask", "review"]) | JUNK,
        "to_name": st.just("image") | JUNK,
        "original_width": st.just(WIDTH) | JUNK,
        "item_index": JUNK,
        "value": st.dictionaries(st.sampled_from(NAMES), JUNK, max_size=8) | JUNK,
    },
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.lists(ITEMS | JUNK, max_size=4))
def test_whatever_stands_in_a_result_is_read_or_set_aside(result: list[Any]) -> None:
    reading = read(*result)
    assert reading.reason or reading.answer is not Answer.SET_ASIDE


def recorded(name: str) -> dict[str, Any]:
    payload = json.loads((PAYLOADS / f"{name}.json").read_text())["json"]
    payload["mapping"] = read_label_config(payload["project"]["label_config"])
    return payload


def read_recorded(name: str) -> Reading:
    payload = recorded(name)
    sizes = [item for item in payload["annotation"]["result"] if "original_width" in item]
    width, height = (sizes[0]["original_width"], sizes[0]["original_height"]) if sizes else (8, 8)
    return read_annotation(payload["annotation"], payload["mapping"], width, height)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("annotation_created_brush_and_choices", Answer.BLACKOUT),
        ("annotation_created_brush_plus_labels", Answer.BLACKOUT),
        ("annotation_created_two_labels_with_eraser", Answer.BLACKOUT),
        ("annotation_created_from_prediction", Answer.BLACKOUT),
        ("annotation_created_from_draft", Answer.BLACKOUT),
        ("annotation_updated", Answer.BLACKOUT),
        ("annotation_created_empty", Answer.SET_ASIDE),
        ("annotation_created_skip_empty", Answer.SKIPPED),
    ],
)
def test_recorded_annotations_are_read(name: str, answer: Answer) -> None:
    reading = read_recorded(name)
    assert reading.answer is answer, reading.reason
    assert (reading.mask is not None and reading.mask.any()) == (answer is Answer.BLACKOUT)


def test_a_draft_is_set_aside() -> None:
    draft = json.loads((PAYLOADS / "task_with_draft.json").read_text())["drafts"][0]
    reading = read_annotation(draft, MAPPING, 331, 517)
    assert reading.answer is Answer.SET_ASIDE
    assert "draft" in reading.reason
