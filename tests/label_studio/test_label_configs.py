"""Labeling configs as people have them, and the mapping found for each: the table of the guide."""

from __future__ import annotations

import re
import shlex
from contextlib import suppress
from pathlib import Path

import pytest
from support.label_studio import RunningLabelStudio

from imil_backend.errors import LabelConfigError
from imil_backend.label_studio.labeling.label_config import ProjectMapping, read_label_config
from imil_backend.label_studio.labeling.label_config_change import completed_config

CONFIGS = Path(__file__).parents[1] / "fixtures" / "label_configs"
GUIDE = Path(__file__).parents[2] / "docs" / "existing-label-studio.md"
ROWS = [
    [cell.strip().strip("`") for cell in row.strip("|").split("|")]
    for row in re.findall(r"^\| `[a-z_]+` \|.*\|$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
]


def options(text: str) -> dict[str, object]:
    """Those of `imil connect`, as read_label_config takes them."""
    found: dict[str, object] = {}
    words = shlex.split(text)
    for option, value in zip(words[::2], words[1::2], strict=True):
        name = option.removeprefix("--")
        found[name] = value if name == "image" else [value]
    return found


def found_in(mapping: ProjectMapping) -> list[str]:
    """The cells of a row."""
    if not mapping.paints:
        return ["refused: nothing to paint with"]
    labels = mapping.labels
    named = [labels.from_names, labels.irrelevant, labels.relevant]
    image = f"{mapping.image_name} (${mapping.image_key})"
    return [image, *(", ".join(sorted(names)) for names in named), mapping.class_choices_name or ""]


def test_every_config_has_its_row() -> None:
    assert {name for name, *_ in ROWS} == {path.stem for path in CONFIGS.glob("*.xml")}


@pytest.mark.parametrize("row", ROWS, ids=[" ".join(row[:2]).strip() for row in ROWS])
def test_the_mapping_is_what_the_guide_says(row: list[str]) -> None:
    name, given, *cells = row
    xml = (CONFIGS / f"{name}.xml").read_text(encoding="utf-8")
    try:
        found = found_in(read_label_config(xml, **options(given), complete=False))  # type: ignore[arg-type]
    except LabelConfigError as error:
        assert cells[0].startswith("refused: ")
        assert cells[0].removeprefix("refused: ") in str(error)
    else:
        assert found == (cells[:1] if cells[0].startswith("refused") else cells)


@pytest.mark.label_studio
@pytest.mark.parametrize("name", sorted({name for name, *_ in ROWS}))
def test_label_studio_takes_the_config_and_what_would_be_added(
    real_label_studio: RunningLabelStudio, name: str
) -> None:
    xml = (CONFIGS / f"{name}.xml").read_text(encoding="utf-8")
    configs = [xml]
    with suppress(LabelConfigError):  # refused: nothing would be added
        configs.append(completed_config(xml, read_label_config(xml, complete=False)))
    for config in configs:
        answer = real_label_studio.request("POST", "/api/projects/validate/", json={"label_config": config})
        assert answer.ok, answer.text
