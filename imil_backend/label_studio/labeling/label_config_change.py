"""The smallest change that lets a project's labeling config be used; every other byte stays as it is."""

from __future__ import annotations

from difflib import unified_diff
from xml.etree import ElementTree
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from imil_backend.errors import LabelConfigError
from imil_backend.label_studio.labeling.label_config import IRRELEVANT, REVIEW_CHOICES, ProjectMapping


def completed_config(xml: str, mapping: ProjectMapping) -> str:
    """The config with what it lacks before its last closing tag: a brush, and the choices of the review.

    Args:
        xml: a config that could be read.
        mapping: what was read from it.
    """
    lacking = []
    names = {tag.get("name") for tag in ElementTree.fromstring(xml).iter()}  # noqa: S314 - read before
    target = quoteattr(mapping.image_name)
    if not mapping.paints:
        lacking += [
            f'  <BrushLabels name="{_free("mask", names)}" toName={target}>',
            f'    <Label value="{IRRELEVANT[0]}"/>',
            "  </BrushLabels>",
        ]
    if mapping.review_name is None:
        lacking += [
            f'  <Choices name="{_free("review", names)}" toName={target} choice="single-radio">',
            *(f'    <Choice value="{text}" alias="{alias}"/>' for alias, text in REVIEW_CHOICES.items()),
            "  </Choices>",
        ]
    if not lacking:
        return xml
    content = xml.encode()
    end = _last_closing_tag(content)
    added = "".join(f"{line}\n" for line in lacking)
    if not content[:end].endswith(b"\n"):
        added = f"\n{added}"
    return (content[:end] + added.encode() + content[end:]).decode()


def difference(before: str, after: str) -> str:
    """A unified diff of two configs."""
    lines = unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), "label_config", "label_config"
    )
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def _last_closing_tag(content: bytes) -> int:
    """Where the root element's closing tag begins."""
    parser = expat.ParserCreate("utf-8")
    ends: list[int] = []
    parser.EndElementHandler = lambda _: ends.append(parser.CurrentByteIndex)
    parser.Parse(content, True)
    if not content.startswith(b"</", ends[-1]):
        raise LabelConfigError("The labeling config is a single tag; nothing can be added to it.")
    return ends[-1]


def _free(name: str, taken: set[str | None]) -> str:
    return name if name not in taken else _free(f"imil_{name}", taken)
