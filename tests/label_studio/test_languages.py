"""The labeling page in each language, and that its answers are read the same."""

from __future__ import annotations

from string import Formatter
from typing import Any

import numpy as np
import pytest

from imil_backend.errors import LabelConfigError
from imil_backend.images.masks.rle import encode_rle
from imil_backend.label_studio.labeling.annotations import Reading, read_annotation
from imil_backend.label_studio.labeling.answers import Answer
from imil_backend.label_studio.labeling.label_config import (
    REVIEW_CHOICES,
    ProjectMapping,
    load_label_config,
    read_label_config,
)
from imil_backend.label_studio.labeling.words import LANGUAGES, problem_in, words_of

WIDTH, HEIGHT = 8, 6
each_language = pytest.mark.parametrize("language", LANGUAGES)


def mapping_in(language: str) -> ProjectMapping:
    return read_label_config(load_label_config("blackout", language, ["sick", "healthy"]))


def painted(label: str = "Irrelevant") -> dict[str, Any]:
    alpha = np.zeros((HEIGHT, WIDTH), np.uint8)
    alpha[:, :3] = 255
    value = {"format": "rle", "rle": encode_rle(alpha), "brushlabels": [label]}
    return {"type": "brushlabels", "from_name": "mask", "to_name": "image", "value": value,
            "original_width": WIDTH, "original_height": HEIGHT}  # fmt: skip


def chosen(*choices: str, name: str = "review") -> dict[str, Any]:
    value = {"choices": list(choices)}
    return {"type": "choices", "from_name": name, "to_name": "image", "value": value}


def read(language: str, *result: dict[str, Any]) -> Reading:
    return read_annotation({"result": list(result)}, mapping_in(language), WIDTH, HEIGHT)


@each_language
def test_what_is_painted_is_read_the_same_in_every_language(language: str) -> None:
    reading, english = read(language, painted("Relevant")), read("en", painted("Relevant"))
    assert reading.answer is Answer.BLACKOUT
    assert reading.outside
    assert np.array_equal(reading.mask, english.mask)


@each_language
@pytest.mark.parametrize("choice", REVIEW_CHOICES)
def test_what_is_chosen_is_read_the_same_in_every_language(language: str, choice: str) -> None:
    assert read(language, chosen(choice)) == read("en", chosen(choice))


@each_language
def test_the_class_that_a_wrong_label_should_be_is_no_answer_and_no_class_to_predict(language: str) -> None:
    reading = read(language, chosen("label_wrong"), chosen("sick", name="imil_right_class"))
    assert (reading.answer, reading.reason) == (Answer.LABEL_WRONG, "It shows 'sick'.")
    assert mapping_in(language).class_choices_name is None


@each_language
def test_a_catalogue_has_every_word_with_the_same_places_to_fill(language: str) -> None:
    def places(text: str) -> set[str | None]:
        return {name for _, name, _, _ in Formatter().parse(text)} - {None}

    english, words = words_of("en"), words_of(language)
    assert words.keys() == english.keys()
    assert {name: places(text) for name, text in words.items()} == {
        name: places(text) for name, text in english.items()
    }
    assert all(words.values())
    assert (
        "," not in words["choice_nothing"] + words["choice_unreadable"]
    )  # Label Studio takes a comma for two choices


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ([], "Es ist nichts gemalt und nichts gewählt."),
        ([painted(), chosen("unreadable")], "Es ist etwas gemalt, obwohl „Nicht beurteilbar“ gewählt ist."),
        (
            [chosen("unreadable"), chosen("label_wrong")],
            "Die Antworten widersprechen sich: 'Nicht beurteilbar' and 'Das Label ist falsch'.",
        ),
        ([{**painted(), "original_width": 7}], words_of("de")["problem_unknown"]),
    ],
)
def test_why_an_answer_does_not_count_is_told_in_the_annotators_language(
    result: list[dict[str, Any]], told: str
) -> None:
    reading = read("de", *result)
    assert reading.answer is Answer.SET_ASIDE
    assert problem_in("de", reading.reason) == told


def test_without_classes_nobody_is_asked_what_is_right() -> None:
    assert "imil_right_class" not in load_label_config("blackout")


def test_a_language_without_a_catalogue_is_refused() -> None:
    with pytest.raises(LabelConfigError):
        words_of("xx")
