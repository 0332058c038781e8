"""The columns of a table by their names, and what a row has in them."""

from __future__ import annotations

import os
import re
from functools import cache

from imil_backend.errors import DatasetError

MOST_SHOWN, LONGEST_SHOWN = 40, 60  # names, and characters of one
_FIELD = re.compile(r"\{([^{}:]+)(:stem)?\}")


class Header:
    """The names of a table's columns. One is found as it is written, or but for case and blanks."""

    def __init__(self, names: list[str], table: str) -> None:
        self.names = names
        self._table = table
        self.find = cache(self._find)

    def _find(self, name: str) -> int | None:
        """The column's number, or None.

        Raises:
            DatasetError: several columns have that name.
        """
        for same in (
            [number for number, each in enumerate(self.names) if each == name.strip()],
            [number for number, each in enumerate(self.names) if _essence(each) == _essence(name)],
        ):
            if len(same) > 1:
                raise DatasetError(
                    f"{self._table} has {len(same)} columns named {name!r}. Rename all but one."
                )
            if same:
                return same[0]
        return None

    @property
    def shown(self) -> str:
        """The names as a message shows them: what is no table may have a header of any length."""
        names = [name if len(name) <= LONGEST_SHOWN else f"{name[:LONGEST_SHOWN]}..." for name in self.names]
        more = ["..."] if len(names) > MOST_SHOWN else []
        return ", ".join(names[:MOST_SHOWN] + more) or "none"

    def has(self, spec: str) -> bool:
        """Whether a column, or all those of a template, are there."""
        return all(self.find(name) is not None for name in names_in(spec))


def names_in(spec: str) -> list[str]:
    """The columns of a template, or the one that it is."""
    return [name for name, _ in _FIELD.findall(spec)] or [spec]


def value_of(cells: list[str], spec: str, header: Header) -> str:
    """A column's value, or a template with columns' values put in."""

    def cell(name: str) -> str:
        number = header.find(name)
        return cells[number].strip() if number is not None and number < len(cells) else ""

    def fill(match: re.Match[str]) -> str:
        value = cell(match[1])
        return os.path.splitext(value)[0] if match[2] else value  # noqa: PTH122 - takes any text

    return _FIELD.sub(fill, spec) if "{" in spec else cell(spec)


def _essence(name: str) -> str:
    return " ".join(name.split()).casefold()
