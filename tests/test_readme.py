"""What the README says about settings, commands and files is so."""

from __future__ import annotations

import re
from pathlib import Path

import typer
from pydantic.fields import FieldInfo

from imil_backend.cli import app
from imil_backend.config import Settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = typer.main.get_group(app).commands


def variable(name: str, field: FieldInfo) -> str:
    """What a setting is called in the environment; the last alias is the one that people know."""
    choices = getattr(field.validation_alias, "choices", None)
    return str(choices[-1]) if choices else f"IMIL_{name.upper()}"


def default(field: FieldInfo) -> str:
    return "" if field.default in (None, ()) else f"`{field.default}`"


def test_the_table_of_settings_has_every_setting_with_its_default() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.*?) ?\| (.+) \|$", README, re.MULTILINE)
    assert {name: shown for name, shown, _ in rows} == {
        variable(name, field): default(field) for name, field in Settings.model_fields.items()
    }


def test_every_command_is_in_the_readme_and_every_command_in_it_exists() -> None:
    named = set(re.findall(r"(?:^|[`/]|\$ )imil ([a-z]+)", README, re.MULTILINE))
    assert named == set(COMMANDS)


def test_the_options_named_with_a_command_exist() -> None:
    for name, options in re.findall(r"`imil ([a-z]+)((?: --[a-z-]+)+)`", README):
        known = {option for parameter in COMMANDS[name].params for option in parameter.opts}
        assert set(options.split()) <= known, name


def test_linked_files_are_there() -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)]+)\)", README)
    assert [link for link in links if not (ROOT / link).exists()] == []
