"""What lies in a folder and below it: files that may be samples, the others counted and named."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from imil_backend.loop.sources.file_names import is_utf8, printable
from imil_backend.loop.sources.junk import SYSTEM, count_files, file_is, folder_is, kind_of
from imil_backend.loop.sources.rows import Source

DEEPEST = 50  # folders within each other; nobody files images so

Parts = tuple[str, ...]  # of a path below the folder


@dataclass
class Tree:
    """Files and folders below a folder, in order, by the parts of their paths."""

    files: list[Parts] = field(default_factory=list)
    folders: list[Parts] = field(default_factory=list)


def list_tree(root: Path, found: Source) -> Tree:
    """List what may be a sample; what is none, or has a name that cannot be kept, is noted in `found`.

    Links are followed, but not into a folder that they lie in.
    """
    tree = Tree()
    _list(root, (), frozenset(), tree, found)
    return Tree(sorted(tree.files), sorted(tree.folders))


def _list(folder: Path, parts: Parts, above: frozenset[tuple[int, int]], tree: Tree, found: Source) -> None:
    try:
        status = folder.stat()
        entries = list(os.scandir(folder))
    except OSError as error:
        found.set_aside.append(
            ("folder", "/".join(parts) or folder.name, f"It cannot be read: {error.strerror}.")
        )
        return
    here = (status.st_dev, status.st_ino)
    if here in above or len(parts) > DEEPEST:
        reason = "It is a link to a folder that contains it, or is nested too deeply."
        found.set_aside.append(("folder", "/".join(parts), reason))
        return
    for entry in sorted(entries, key=lambda each: each.name):
        name, inner = entry.name, (*parts, entry.name)
        if not _holds(entry.is_dir):
            _take_file(entry, inner, tree, found)
        elif what := folder_is(name):
            found.pass_over(what, name, count_files(str(folder / name)))
        elif not is_utf8(name):
            reason = (
                "The name of this folder is not UTF-8. Rename it to import the files in it: "
                f"{count_files(str(folder / name))}."
            )
            found.set_aside.append(("folder", printable("/".join(inner)), reason))
        else:
            tree.folders.append(inner)
            _list(folder / name, inner, above | {here}, tree, found)


def _holds(test: Callable[[], bool]) -> bool:
    """What is asked of an entry; no, where it cannot be told (a link to itself)."""
    try:
        return test()
    except OSError:
        return False


def _take_file(file: os.DirEntry[str], parts: Parts, tree: Tree, found: Source) -> None:
    what = file_is(file.name)
    if not is_utf8(file.name) and what != SYSTEM:
        reason = "Its name is not UTF-8. Rename it to import it."
        found.set_aside.append(("image", printable("/".join(parts)), reason))
    elif what:
        found.pass_over(what, kind_of(file.name))
    elif not _holds(file.is_file):
        found.set_aside.append(("image", "/".join(parts), "It is not a file, or a broken link."))
    else:
        tree.files.append(parts)
