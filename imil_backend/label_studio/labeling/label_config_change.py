"""What a project's labeling config lacks, added above its image; every other byte stays as it is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import unified_diff
from xml.etree import ElementTree
from xml.parsers import expat

from imil_backend.label_studio.labeling.label_config import ProjectMapping
from imil_backend.label_studio.labeling.task_data import EVIDENCE_KEY, PREDICTED_KEY
from imil_backend.label_studio.labeling.words import filled

_HOTKEY = re.compile(r' hotkey="\w"')


def completed_config(
    xml: str,
    mapping: ProjectMapping,
    language: str = "en",
    classes: Sequence[str] = (),
    *,
    evidence: bool = False,
) -> str:
    """The config with what it lacks above its image: a brush, choices of the review, label and prediction.

    Args:
        xml: a config that could be read.
        mapping: what was read from it.
        language: of what is added; what stands in annotations is the same in every language.
        classes: of the dataset, to say what an image with a wrong label shows.
        evidence: show class evidence too, which takes Label Studio 1.23 and a project that takes uploads.
    """
    there = {tag.get("name") for tag in ElementTree.fromstring(xml).iter()}  # noqa: S314 - read before
    names = {
        "image_name": mapping.image_name,
        "brush_name": _free("mask", there),
        "review_name": _free("review", there),
    }
    lacking = {
        "facts": PREDICTED_KEY not in mapping.fields,
        "brush": not mapping.paints,
        "answers": mapping.review_name is None,
        "evidence": evidence and mapping.takes_uploads and EVIDENCE_KEY not in mapping.fields,
    }
    if not any(lacking.values()):
        return xml
    parts = ["style", *(name for name, is_lacking in lacking.items() if is_lacking)]
    return _above_image(
        xml, mapping.image_name, [filled(f"parts/{name}.xml", language, classes, names) for name in parts]
    )


def _above_image(xml: str, image_name: str, parts: Sequence[str]) -> str:
    content = xml.encode()
    begin = _beginning_of_image(content, image_name)
    line = content[:begin].rpartition(b"\n")[2].decode()
    indent = line if not line.strip() else ""
    # Keys are the project's own: its labels may have them.
    added = _HOTKEY.sub("", "\n".join(part.strip() for part in parts)).splitlines()
    return f"{content[:begin].decode()}{f'{chr(10)}{indent}'.join([*added, content[begin:].decode()])}"


def difference(before: str, after: str) -> str:
    """A unified diff of two configs."""
    lines = unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), "label_config", "label_config"
    )
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def _beginning_of_image(content: bytes, image_name: str) -> int:
    parser = expat.ParserCreate("utf-8")
    found: list[int] = []

    def begins(tag: str, attributes: dict[str, str]) -> None:
        if tag == "Image" and attributes.get("name") == image_name:
            found.append(parser.CurrentByteIndex)

    parser.StartElementHandler = begins
    parser.Parse(content, True)
    return found[0]


def _free(name: str, taken: set[str | None]) -> str:
    return name if name not in taken else _free(f"imil_{name}", taken)
