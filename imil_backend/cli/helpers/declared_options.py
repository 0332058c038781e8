"""Command-line options declared by the fields of a dataclass."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection
from enum import Enum
from typing import Annotated, Any, TypeVar

import typer

from imil_backend.options import Declared, declared

R = TypeVar("R")


def with_options(
    into: str, owner: type, groups: Collection[str]
) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Add the options that a dataclass declares to a command.

    Args:
        into: parameter of the command that receives the given options, a dictionary by field.
        owner: the dataclass.
        groups: groups of options that the command takes; an option with a single choice is not offered.
    """
    offered = [
        each
        for each in declared(owner)
        if each.option.help and each.option.group in groups and len(each.choices) != 1
    ]

    def extend(command: Callable[..., R]) -> Callable[..., R]:
        signature = inspect.signature(command, eval_str=True)

        @functools.wraps(command)
        def run(*args: Any, **kwargs: Any) -> R:
            given = {each.name: _plain(kwargs.pop(each.name)) for each in offered}
            said = {name: value for name, value in given.items() if value is not None}
            return command(*args, **kwargs, **{into: said})

        own = [each for name, each in signature.parameters.items() if name != into]
        run.__signature__ = signature.replace(parameters=[*own, *map(_parameter, offered)])  # type: ignore[attr-defined]
        return run

    return extend


def _parameter(each: Declared) -> inspect.Parameter:
    option = each.option
    shown: Any = typer.Option(
        *([option.flag] if option.flag else []),
        help=f"{option.help.removesuffix('.')} ({_default_in_words(each)}).",
        min=option.at_least if option.above is None else option.above,
        max=option.at_most if option.below is None else option.below,
        rich_help_panel=option.group,
    )
    kind: Any = Enum(each.name, [(name, name) for name in each.choices]) if each.choices else each.type
    return inspect.Parameter(
        each.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, shown]
    )


def _default_in_words(each: Declared) -> str:
    if isinstance(each.default, bool):
        on, off = (each.option.flag or "yes/no").split("/")
        return (on if each.default else off).removeprefix("--")
    if each.default == 0 and each.option.zero:
        return f"0: {each.option.zero}"
    return f"{each.default:g}" if isinstance(each.default, float) else str(each.default)


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value
