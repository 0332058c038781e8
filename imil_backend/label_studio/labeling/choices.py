"""What was chosen in an item of a result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def choices_of(item: Mapping[str, Any]) -> list[str]:
    """The choices of an item, in order; none where it is no item of a Choices.

    A text in place of the list, as scripts and exports have it, can only be the one choice, though the editor
    of Label Studio 1.23 shows an error for it. Of a nested choice, a list from the topmost one down, the last
    one was chosen.
    """
    value = item.get("value")
    choices = value.get("choices") if isinstance(value, Mapping) else None
    listed = choices if isinstance(choices, list) else [choices]
    leaves = [each[-1] if isinstance(each, list) and each else each for each in listed]
    return [str(leaf) for leaf in leaves if isinstance(leaf, (str, int, float)) and str(leaf).strip()]
