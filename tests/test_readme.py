"""What the README and the docs say about settings, commands and files is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from pydantic.fields import FieldInfo

from imil_backend.cli import app
from imil_backend.config import Settings

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
}
COMMANDS = typer.main.get_group(app).commands


def variable(name: str, field: FieldInfo) -> str:
    """What a setting is called in the environment; the last alias is the one that people know."""
    choices = getattr(field.validation_alias, "choices", None)
    return str(choices[-1]) if choices else f"IMIL_{name.upper()}"


def default(field: FieldInfo) -> str:
    return "" if field.default in (None, ()) else f"`{field.default}`"


def commands_in(text: str) -> set[str]:
    return set(re.findall(r"(?:^|[`/]|\$ )imil ([a-z]+)", text, re.MULTILINE))


def anchors_of(text: str) -> set[str]:
    """Those that GitHub and the site give to headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_table_of_settings_has_every_setting_with_its_default() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.*?) ?\| (.+) \|$", PAGES["docs/settings.md"], re.MULTILINE)
    assert {name: shown for name, shown, _ in rows} == {
        variable(name, field): default(field) for name, field in Settings.model_fields.items()
    }


def test_every_command_has_its_row_in_the_table_of_commands() -> None:
    rows = re.findall(r"^\| (`imil [a-z]+`.*?) \|", PAGES["docs/engineers.md"], re.MULTILINE)
    assert commands_in("\n".join(rows)) == set(COMMANDS)


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_exist(page: str) -> None:
    assert commands_in(PAGES[page]) <= set(COMMANDS)


@pytest.mark.parametrize("page", PAGES)
def test_the_options_named_with_a_command_exist(page: str) -> None:
    for name, options in re.findall(r"`imil ([a-z]+)((?: --[a-z-]+)+)", PAGES[page]):
        parameters = COMMANDS[name].params
        known = {option for each in parameters for option in (*each.opts, *each.secondary_opts)}
        assert set(options.split()) <= known, name


@pytest.mark.parametrize("page", PAGES)
def test_linked_files_and_their_headings_are_there(page: str) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", PAGES[page]):
        name, _, anchor = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors_of(target.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("page", PAGES)
def test_the_files_of_the_code_that_a_page_names_exist(page: str) -> None:
    named = re.findall(r"`((?:imil_backend|scripts|docker|tests|label_config)/[\w/.-]+)`", PAGES[page])
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_files_that_the_figures_name_exist() -> None:
    figures = "\n".join(re.findall(r"```mermaid\n(.*?)```", PAGES["docs/architecture.md"], re.DOTALL))
    named = set(re.findall(r"\b((?:loop|learning|images|store|server)/[\w/]*\w(?:\.py)?)", figures))
    assert named
    assert [path for path in named if not (ROOT / "imil_backend" / path).exists()] == []


@pytest.mark.parametrize(("floor", "place"), [("loop", 2), ("learning", 3)])
def test_the_rooms_of_the_architecture_are_those_of_the_package(floor: str, place: int) -> None:
    figure = re.findall(r"```mermaid\n(.*?)```", PAGES["docs/architecture.md"], re.DOTALL)[place]
    labels = re.findall(r'\["(.*?)<br>', figure)
    rooms = {path.parent.name for path in (ROOT / "imil_backend" / floor).glob("*/__init__.py")}
    assert {room for label in labels for room in label.split(" · ")} == rooms


def test_every_page_is_in_the_navigation() -> None:
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2].partition("\n\n")[0]
    named = set(re.findall(r"[\w/-]+\.md", nav))
    assert named == {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
