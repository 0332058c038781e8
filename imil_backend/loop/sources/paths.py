"""Paths as tables give them, of other machines and other systems, found in a folder of this one."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_ABSOLUTE = re.compile(r"([A-Za-z]:)?[\\/]")
_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True)
class Located:
    """Where a path of a table leads.

    Attributes:
        path: the file; where it was looked for, if there is none.
        name: the path below the folder; as the table gives it, if it was found so or not at all.
        problem: why it cannot be used, or None.
    """

    path: Path
    name: str
    problem: str | None = None


def is_file(path: Path) -> bool:
    """Whether a file is there; unlike `Path.is_file` it says no to names that are too long for one."""
    return os.path.isfile(path)  # noqa: PTH113


class Fence:
    """Tells files of a source from others, which `..`, an absolute path or a link leads to.

    Args:
        root: the folder of the source.
        name: of the source, for messages.
        may_leave: whether files outside may be taken.
    """

    def __init__(self, root: Path, name: str, *, may_leave: bool) -> None:
        self.name = name
        self.may_leave = may_leave
        self._root = Path(os.path.realpath(root))
        self._folder = cache(os.path.realpath)  # there are many files in a folder

    def holds(self, path: Path) -> bool:
        """Whether a file lies inside, links followed."""
        if "\0" in str(path):  # which no file's has
            return True
        real = Path(self._folder(path.parent), path.name)
        if path.name == ".." or os.path.islink(real):  # noqa: PTH114 - takes any text
            real = Path(os.path.realpath(real))
        return real.is_relative_to(self._root)


class Locator:
    """Finds the files that a table names.

    A path that leads nowhere as it is may come from Windows (`img\\a.png`), from elsewhere
    (`C:\\data\\img\\a.png`: the longest end of it that is there), or differ in case or in how its letters
    are coded (`é` as one sign or as two).

    Args:
        folder: that the table lies in.
        fence: around it; a file outside is what a path means only if there is none inside.
    """

    def __init__(self, folder: Path, fence: Fence) -> None:
        self.folder = folder
        self._fence = fence
        self._listed: dict[Path, Mapping[str, list[str]]] = {}
        self._found_by: dict[str, str] = {}  # name -> the absolute path that led to it

    def locate(self, given: str) -> Located:
        """The file that a table's path means."""
        as_given = Located(self.folder / given, given)
        if is_file(as_given.path) and (self._fence.may_leave or self._fence.holds(as_given.path)):
            return as_given
        parts = [part for part in re.split(r"[\\/]", _DRIVE.sub("", given, count=1)) if part not in {"", "."}]
        if not parts or ".." in parts:
            return as_given
        starts = range(len(parts)) if _ABSOLUTE.match(given) else range(1)
        for start in starts:
            found = self._find(parts[start:])
            if found is None:
                continue
            if start and self._found_by.setdefault(found.name, given) != given:
                other = self._found_by[found.name]
                problem = f"{other} and {given} would both be this file; their folders do not exist here."
                return Located(found.path, found.name, problem)
            return found
        return as_given

    def unlisted(self, known: set[Path]) -> dict[Path, list[str]]:
        """The other files in the folders of these files, by folder; folders outside this one are left out."""
        others: dict[Path, list[str]] = {}
        for folder in sorted({path.parent for path in known}):
            if folder.is_relative_to(self.folder) and ".." not in folder.parts:
                names = [name for same in self._listing(folder).values() for name in same]
                others[folder] = [
                    name for name in sorted(names) if folder / name not in known and (folder / name).is_file()
                ]
        return others

    def _find(self, parts: list[str]) -> Located | None:
        folder, names = self.folder, list[str]()
        for part in parts:
            same = self._listing(folder).get(_key(part), [])
            if part not in same and len(same) > 1:
                problem = f"There are {' and '.join(same)}, and neither matches exactly."
                return Located(folder / part, "/".join([*names, part]), problem)
            if not same:
                return None
            names.append(part if part in same else same[0])
            folder /= names[-1]
        return Located(folder, "/".join(names)) if folder.is_file() else None

    def _listing(self, folder: Path) -> Mapping[str, list[str]]:
        """What is in a folder, by names without case."""
        if folder not in self._listed:
            listed: dict[str, list[str]] = defaultdict(list)
            with suppress(OSError):
                for entry in folder.iterdir():
                    listed[_key(entry.name)].append(entry.name)
            self._listed[folder] = dict(listed)
        return self._listed[folder]


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
