"""What a clinician's annotation says about its sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imil_backend.errors import MaskError
from imil_backend.images.masks.masks import painted_masks
from imil_backend.images.masks.outlines import is_outline
from imil_backend.images.masks.regions import key_points
from imil_backend.label_studio.labeling.answers import Answer
from imil_backend.label_studio.labeling.choices import choices_of
from imil_backend.label_studio.labeling.label_config import (
    LABEL_WRONG,
    NOTHING_TO_BLACK_OUT,
    UNREADABLE,
    ProjectMapping,
)
from imil_backend.label_studio.labeling.words import RIGHT_CLASS

_ANSWERS = {
    NOTHING_TO_BLACK_OUT: Answer.NOTHING,
    LABEL_WRONG: Answer.LABEL_WRONG,
    UNREADABLE: Answer.UNREADABLE,
}
_OUTLINED = (
    "What is relevant is outlined, and the inside would be taken for irrelevant. Paint over the inside, too."
)


@dataclass(frozen=True)
class Reading:
    """An annotation, understood.

    Attributes:
        answer: what becomes of the sample.
        mask: bool of shape (height, width), True = irrelevant; where something was painted and the answer is
            BLACKOUT, or LABEL_WRONG, in case the label is corrected later.
        outside: whether relevant parts were painted, so that all else is irrelevant.
        reason: why it is set aside, what of it was passed over, or what an image with a wrong label shows
            instead; "" otherwise.
        choice: the review choice as it stands in the result, or None.
    """

    answer: Answer
    mask: NDArray[np.bool_] | None = None
    outside: bool = False
    reason: str = ""
    choice: str | None = None


def read_annotation(
    annotation: Mapping[str, Any], mapping: ProjectMapping, width: int, height: int
) -> Reading:
    """Read an annotation as Label Studio's API gives it.

    - Skipped: SKIPPED, whatever was painted before.
    - Made of a prediction by the Data Manager's bulk action, and not opened since: SET_ASIDE.
    - Painted, without a choice: BLACKOUT. A prediction that was accepted unchanged is an answer as well.
    - Painted, and 'The label is wrong': LABEL_WRONG, and the mask is kept. Both can be true.
    - Painted, and 'Nothing to black out' or 'Unreadable': a contradiction, SET_ASIDE.
    - Not painted: what was chosen; without a choice SET_ASIDE.
    - Two choices, a region that cannot be used, or every pixel painted irrelevant: SET_ASIDE.
    - Relevant parts outlined and not painted over, so that they would be taken for irrelevant: SET_ASIDE.
    - Key points beside them are passed over and named: they cover no pixels.

    Args:
        annotation: with `result` and `was_cancelled`.
        mapping: what the project's labeling config means.
        width: natural width of the sample's image, EXIF orientation applied.
        height: natural height.
    """
    if annotation.get("was_cancelled"):
        return Reading(Answer.SKIPPED)
    if _is_made_of_a_prediction(annotation):
        return _set_aside(
            "It was made of a prediction, and nobody has looked at it. Open it, and press Update if it is "
            "right."
        )
    result = annotation.get("result")
    if not isinstance(result, list) or not all(isinstance(item, Mapping) for item in result):
        return _set_aside("Its result is not a list of regions.")
    choices = _review_choices(result, mapping)
    if len(choices) > 1:
        words = " and ".join(repr(mapping.shown.get(choice, choice)) for choice in choices)
        return _set_aside(f"It has contradictory choices: {words}.")
    choice = choices[0] if choices else None
    try:
        irrelevant, relevant = painted_masks(result, mapping.labels, width, height)
        points = key_points(result, mapping.labels)
        outside = bool(relevant.any())
        if outside and is_outline(relevant, irrelevant):
            raise MaskError(_OUTLINED)
    except MaskError as error:
        return _set_aside(str(error), choice)
    reading = _combine(irrelevant | ~relevant if outside else irrelevant, choice, mapping)
    remarks = (reading.reason, _right_class(result, reading.answer), _passed_over(points))
    return replace(reading, outside=outside, reason=" ".join(filter(None, remarks)))


def _right_class(result: Sequence[Mapping[str, Any]], answer: Answer) -> str:
    """What an image with a wrong label shows instead. Nothing is relabelled by it."""
    said = [choice for item in result if item.get("from_name") == RIGHT_CLASS for choice in choices_of(item)]
    return f"It shows {said[0]!r}." if said and answer is Answer.LABEL_WRONG else ""


def begins_with_a_prediction(annotation: Mapping[str, Any]) -> bool:
    """Whether an annotation began with what a prediction had pre-filled, changed or not."""
    result = annotation.get("result")
    items = result if isinstance(result, list) else []
    origins = (str(item.get("origin", "")) for item in items if isinstance(item, Mapping))
    return annotation.get("parent_prediction") is not None or any(
        origin.startswith("prediction") for origin in origins
    )


def _is_made_of_a_prediction(annotation: Mapping[str, Any]) -> bool:
    """By 'Create annotations from predictions': no person has submitted it. The editor counts the seconds."""
    return annotation.get("parent_prediction") is not None and annotation.get("lead_time") is None


def _passed_over(points: Sequence[str]) -> str:
    if not points:
        return ""
    names = ", ".join(map(repr, points))
    return f"Ignored, since a key point covers no pixels: {names}. Paint over what is meant."


def _combine(mask: NDArray[np.bool_], choice: str | None, mapping: ProjectMapping) -> Reading:
    painted = bool(mask.any())
    answer = _ANSWERS.get(mapping.review.get(choice or "", ""))
    words = mapping.shown.get(choice or "", choice)
    problem = ""
    if choice is not None and answer is None:
        problem = f"Its choice {words!r} is not in the labeling config."
    elif painted and answer in {Answer.NOTHING, Answer.UNREADABLE}:
        problem = f"Something is painted although {words!r} is chosen."
    elif painted and mask.all():
        problem = "Every pixel is painted irrelevant; nothing of the image would be left."
    elif not painted and answer is None:
        problem = "Nothing is painted and nothing is chosen."
    if problem:
        return _set_aside(problem, choice)
    return Reading(answer or Answer.BLACKOUT, mask if painted else None, choice=choice)


def _review_choices(result: Sequence[Mapping[str, Any]], mapping: ProjectMapping) -> list[str]:
    """The distinct review choices, in order."""
    found: dict[str, None] = {}
    for item in result:
        if mapping.review_name is None or item.get("from_name") != mapping.review_name:
            continue
        found |= dict.fromkeys(choices_of(item))
    return list(found)


def _set_aside(reason: str, choice: str | None = None) -> Reading:
    return Reading(Answer.SET_ASIDE, reason=reason, choice=choice)
