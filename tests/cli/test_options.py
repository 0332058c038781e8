"""The options of `imil train` and `imil push` are those that recipe and policy declare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest
import typer
from typer.testing import CliRunner

from imil_backend.cli import app
from imil_backend.cli.helpers.declared_options import with_options
from imil_backend.errors import SettingsError
from imil_backend.learning.contract.training_job import Recipe
from imil_backend.loop.base.policy import Policy
from imil_backend.options import check_options, declared, option


@dataclass(frozen=True)
class Brewing:
    minutes: float = option(3.0, "How long.", group="Tea", above=0, at_most=10, why="it turns bitter")
    kind: Literal["green", "black"] = option("black", "Which leaves.", group="Tea")
    milk: bool = option(False, "With milk.", group="Tea", flag="--white/--plain")
    sugar: int = option(0, "Lumps.", group="Other", zero="none")
    water: int = option(1, at_least=1)


def brewing(*arguments: str) -> tuple[dict[str, Any], str, int]:
    given: list[dict[str, Any]] = []
    tea = typer.Typer()

    @tea.command()
    @with_options("brewed", Brewing, ("Tea",))
    def brew(brewed: dict[str, Any]) -> None:
        given.append(brewed)

    result = CliRunner().invoke(tea, list(arguments), env={"COLUMNS": "200"})
    return (given or [{}])[0], result.output, result.exit_code


def test_what_is_given_comes_by_field_and_nothing_else() -> None:
    assert brewing()[0] == {}
    assert brewing("--plain", "--kind", "green", "--minutes", "2")[0] == {
        "minutes": 2.0,
        "kind": "green",
        "milk": False,
    }


@pytest.mark.parametrize(
    "arguments", [("--kind", "red"), ("--minutes", "11"), ("--sugar", "1"), ("--water", "2")]
)
def test_what_is_not_declared_is_refused(arguments: tuple[str, str]) -> None:
    assert brewing(*arguments)[2] == 2


def test_help_says_default_bounds_and_choices() -> None:
    shown = brewing("--help")[1]
    for text in (
        "How long (3).",
        "Which leaves (black).",
        "With milk (plain).",
        "x<=10",
        "green|black",
        "Tea",
    ):
        assert text in shown


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("minutes", 0, "minutes is 0; it must be above 0 and at most 10: it turns bitter."),
        ("minutes", float("nan"), "minutes is nan"),
        ("kind", "red", "kind is 'red'; it must be one of green, black."),
        ("water", 0, "water is 0; it must be 1 or more."),
    ],
)
def test_bounds_and_choices_hold_without_the_command_line_too(field: str, value: Any, message: str) -> None:
    check_options(Brewing())
    with pytest.raises(SettingsError) as raised:
        check_options(Brewing(**{field: value}))
    assert message in str(raised.value)


def test_each_option_of_recipe_and_policy_is_offered() -> None:
    shown = "".join(
        CliRunner().invoke(app, [each, "--help"], env={"COLUMNS": "200"}).stdout for each in ("train", "push")
    )
    for each in (*declared(Recipe), *declared(Policy)):
        if each.option.help and len(each.choices) != 1:
            flag = (each.option.flag or f"--{each.name.replace('_', '-')}").split("/")[0]
            assert shown.count(f" {flag} ") == 1, flag
    assert " --momentum " not in shown
