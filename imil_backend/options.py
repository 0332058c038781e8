"""Options that are declared once: default, help, bounds and choices stand at the field of a dataclass.

The command line offers them as options (`cli/helpers/declared_options.py`); `check_options` checks values.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from imil_backend.errors import SettingsError

T = TypeVar("T")

_KEY = "option"


@dataclass(frozen=True)
class Option:
    """What a field says of itself. A field without help is no option of the command line."""

    help: str = ""
    group: str = ""  # heading under which the command line lists it
    flag: str | None = None  # such as "--quick/--slow"; None: made from the field's name
    zero: str | None = None  # what 0 means, such as "never"
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    why: str = ""  # the bounds are as they are
    choices: Collection[str] | None = (
        None  # read when they are needed; None: the field's Literal, if it is one
    )

    @property
    def bounds(self) -> str:
        """In words, such as "above 0 and at most 1"; empty if there are none."""
        low = f"above {self.above:g}" if self.above is not None else ""
        low = f"{self.at_least:g} or more" if self.at_least is not None else low
        high = f"below {self.below:g}" if self.below is not None else ""
        high = f"at most {self.at_most:g}" if self.at_most is not None else high
        return " and ".join(part for part in (low, high) if part)

    def within(self, value: float) -> bool:
        """Whether a number keeps to the bounds; NaN does not."""
        return (
            (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )


@dataclass(frozen=True)
class Declared:
    """An option with the name, type and default of its field."""

    name: str
    type: type[bool] | type[int] | type[float] | type[str]
    default: Any
    option: Option
    choices: tuple[str, ...]  # empty: any value


def option(default: T, help: str = "", **said: Any) -> T:
    """A dataclass field that is an option.

    Args:
        default: of the field.
        help: a sentence, shown by `--help`; without one the command line does not offer the field.
        said: the other fields of `Option`.
    """
    made: T = field(default=default, metadata={_KEY: Option(help, **said)})
    return made


def declared(owner: type) -> list[Declared]:
    """The options of a dataclass, in the order of its fields."""
    hints = get_type_hints(owner)
    found = []
    for each in fields(owner):
        if (said := each.metadata.get(_KEY)) is not None:
            hint = hints[each.name]
            literal = get_args(hint) if get_origin(hint) is Literal else ()
            choices = tuple(said.choices if said.choices is not None else literal)
            found.append(Declared(each.name, str if choices else hint, each.default, said, choices))
    return found


def check_options(holder: Any) -> None:
    """Refuse what is out of bounds or none of the choices.

    Args:
        holder: of a dataclass whose fields are options.

    Raises:
        SettingsError: names the field, its value and what it may be.
    """
    for each in declared(type(holder)):
        value = getattr(holder, each.name)
        if each.choices and value not in each.choices:
            raise SettingsError(f"{each.name} is {value!r}; it must be one of {', '.join(each.choices)}.")
        if each.option.bounds and not each.option.within(value):
            why = f": {each.option.why}" if each.option.why else ""
            raise SettingsError(f"{each.name} is {value}; it must be {each.option.bounds}{why}.")
