from __future__ import annotations

from typing import Any

import pytest

from imil_backend.errors import AnnotationError
from imil_backend.label_studio.labeling.classification import SeveralAnnotators, class_of

MAJORITY, LATEST, AGREED = SeveralAnnotators


def chosen(*labels: str, origin: str = "manual") -> dict[str, Any]:
    return {"from_name": "class", "type": "choices", "origin": origin, "value": {"choices": list(labels)}}


def annotation(*items: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": 7, "result": list(items), "was_cancelled": False, "updated_at": "2026-01-01", **more}


def task(*annotations: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": 1, "annotations": list(annotations), **more}


def votes(*labels: str) -> dict[str, Any]:
    return task(
        *(annotation(chosen(label), updated_at=f"2026-01-0{day}") for day, label in enumerate(labels))
    )


def test_the_chosen_class_counts() -> None:
    other = {"from_name": "quality", "type": "choices", "value": {"choices": ["good"]}}
    assert class_of(task(annotation(other, chosen("sick"))), "class", MAJORITY) == "sick"


def test_ground_truth_wins_over_any_number_of_others() -> None:
    several = task(
        annotation(chosen("sick")),
        annotation(chosen("sick")),
        annotation(chosen("normal"), ground_truth=True),
    )
    assert class_of(several, "class", MAJORITY) == "normal"


@pytest.mark.parametrize(
    ("rule", "labels", "expected"),
    [
        (MAJORITY, ("sick", "sick", "normal"), "sick"),
        (LATEST, ("sick", "sick", "normal"), "normal"),
        (AGREED, ("sick", "sick"), "sick"),
    ],
)
def test_several_annotators_are_decided_by_the_rule(
    rule: SeveralAnnotators, labels: tuple[str, ...], expected: str
) -> None:
    assert class_of(votes(*labels), "class", rule) == expected


@pytest.mark.parametrize(
    ("rule", "labels", "words"),
    [
        (MAJORITY, ("sick", "normal"), "tied"),
        (AGREED, ("sick", "sick", "normal"), r"disagree \(sick 2, normal 1\)"),
    ],
)
def test_annotators_that_the_rule_cannot_decide_set_the_task_aside(
    rule: SeveralAnnotators, labels: tuple[str, ...], words: str
) -> None:
    with pytest.raises(AnnotationError, match=words):
        class_of(votes(*labels), "class", rule)


def test_two_classes_at_once_are_refused() -> None:
    with pytest.raises(AnnotationError, match="normal and sick at once"):
        class_of(task(annotation(chosen("sick", "normal"))), "class", MAJORITY)


def test_skipped_and_empty_annotations_say_nothing() -> None:
    assert class_of(task(), "class", MAJORITY) is None
    assert class_of(task(annotation(chosen("sick"), was_cancelled=True)), "class", MAJORITY) is None
    assert class_of(task(annotation(), annotation(chosen())), "class", MAJORITY) is None


@pytest.mark.parametrize("predictions", [[{"id": 5, "result": [chosen("sick")]}], []])
@pytest.mark.parametrize("choice", [chosen("sick", origin="prediction"), {**chosen("sick"), "score": 0.9}])
def test_a_prediction_or_suggestion_that_nobody_touched_is_no_truth(
    choice: dict[str, Any], predictions: list[dict[str, Any]]
) -> None:
    untouched = annotation(choice, parent_prediction=5)
    assert class_of(task(untouched, predictions=predictions), "class", MAJORITY) is None
    corrected = task(untouched, annotation(chosen("normal")), predictions=predictions)
    assert class_of(corrected, "class", MAJORITY) == "normal"


@pytest.mark.parametrize(
    "changed",
    [
        annotation(chosen("normal", origin="prediction"), parent_prediction=5),
        annotation(chosen("sick", origin="prediction-changed"), parent_prediction=5),
        annotation({**chosen("normal"), "score": 0.9}, parent_prediction=5),
        annotation(chosen("sick", origin="prediction"), parent_prediction=5, ground_truth=True),
    ],
)
def test_a_prediction_that_was_changed_or_declared_true_counts(changed: dict[str, Any]) -> None:
    predictions = [{"id": 5, "result": [chosen("sick")]}]
    expected = changed["result"][0]["value"]["choices"][0]
    assert class_of(task(changed, predictions=predictions), "class", MAJORITY) == expected


@pytest.mark.parametrize(
    ("choices", "label"),
    [
        ("sick", "sick"),  # a text in place of the list
        (["sick"], "sick"),
        ([["chest", "sick"]], "sick"),  # of nested choices the last one
        ([1], "1"),
        (None, None),
        ([], None),
        ("", None),
        ([None, "  "], None),
        ({"sick": True}, None),
    ],
)
def test_choices_are_read_however_they_are_written(choices: object, label: str | None) -> None:
    item = {"from_name": "class", "to_name": "image", "type": "choices", "value": {"choices": choices}}
    task = {"annotations": [{"id": 1, "result": [item]}]}
    assert class_of(task, "class", SeveralAnnotators.MAJORITY) == label
