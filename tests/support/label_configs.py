"""Labeling configs that tests make."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import quoteattr


def classification_config(classes: Sequence[str]) -> str:
    """A labeling config in which one of the classes is chosen, and nothing painted."""
    choices = "".join(f"<Choice value={quoteattr(name)}/>" for name in classes)
    return (
        f'<View><Choices name="class" toName="image" choice="single-radio">{choices}</Choices>'
        '<Image name="image" value="$image"/></View>'
    )
