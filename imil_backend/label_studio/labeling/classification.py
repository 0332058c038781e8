"""The class that the annotators of a classification project gave to an image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from imil_backend.errors import AnnotationError
from imil_backend.label_studio.labeling.choices import choices_of

Json = Mapping[str, Any]


class SeveralAnnotators(str, Enum):
    """Which class counts where several annotators have answered."""

    MAJORITY = "majority"
    """The one that most of them chose; a tie sets the task aside."""
    LATEST = "latest"
    """That of the annotation that was changed last."""
    AGREED = "agreed"
    """The one that all of them chose; else the task is set aside."""


def class_of(task: Json, choices_name: str, rule: SeveralAnnotators) -> str | None:
    """The class of a task, or None where nobody has chosen one.

    What is marked as ground truth wins. Skipped annotations do not count, nor do choices that a prediction
    filled in and nobody touched, unless they are marked as ground truth.

    Args:
        task: of Label Studio, with its annotations and predictions.
        choices_name: name of the Choices tag that carries the class.
        rule: for several annotators.

    Raises:
        AnnotationError: several classes at once, or annotators who do not agree as the rule wants.
    """
    submitted = [each for each in task.get("annotations") or [] if not each.get("was_cancelled")]
    truths = [each for each in submitted if each.get("ground_truth")]
    predicted = _predicted(task, choices_name)
    chosen = [
        (str(annotation.get("updated_at", "")), label)
        for annotation in truths or submitted
        if truths or not _is_untouched_prediction(annotation, choices_name, predicted)
        if (label := _chosen(annotation, choices_name)) is not None
    ]
    if not chosen:
        return None
    return _decide(chosen, rule)


def _predicted(task: Json, choices_name: str) -> dict[int, list[str]]:
    """The choices of each of the task's predictions."""
    return {
        int(prediction["id"]): _labels(prediction, choices_name)
        for prediction in task.get("predictions") or []
        if isinstance(prediction, Mapping)
    }


def _is_untouched_prediction(annotation: Json, choices_name: str, predicted: Mapping[int, list[str]]) -> bool:
    """Whether an annotation says no more than the prediction that it was made from."""
    items = _items(annotation, choices_name)
    parent = annotation.get("parent_prediction")
    if parent is None or not all(_is_of_a_model(item) for item in items):
        return False
    labels = _labels(annotation, choices_name)
    return predicted.get(parent, labels) == labels  # the prediction itself may be gone


def _is_of_a_model(item: Json) -> bool:
    """Label Studio calls an interactive suggestion "manual" too, but leaves the model's score in it."""
    origin = item.get("origin")
    return origin == "prediction" or (origin == "manual" and "score" in item)


def _chosen(annotation: Json, choices_name: str) -> str | None:
    labels = set(_labels(annotation, choices_name))
    if len(labels) > 1:
        raise AnnotationError(
            f"Annotation {annotation.get('id')} chooses {' and '.join(sorted(labels))} at once."
        )
    return next(iter(labels), None)


def _items(result_of: Json, choices_name: str) -> list[Json]:
    result = result_of.get("result")
    items = result if isinstance(result, Sequence) else []
    return [item for item in items if isinstance(item, Mapping) and item.get("from_name") == choices_name]


def _labels(result_of: Json, choices_name: str) -> list[str]:
    return [label for item in _items(result_of, choices_name) for label in choices_of(item)]


def _decide(chosen: list[tuple[str, str]], rule: SeveralAnnotators) -> str:
    if rule is SeveralAnnotators.LATEST:
        return max(chosen)[1]
    ranked = Counter(label for _, label in chosen).most_common()
    if len(ranked) == 1:
        return ranked[0][0]
    votes = ", ".join(f"{label} {count}" for label, count in ranked)
    if rule is SeveralAnnotators.AGREED:
        raise AnnotationError(f"Its annotators disagree ({votes}).")
    if ranked[0][1] == ranked[1][1]:
        raise AnnotationError(
            f"Its annotators are tied ({votes}); mark one annotation as ground truth to decide."
        )
    return ranked[0][0]
