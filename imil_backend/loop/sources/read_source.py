"""Where a data set comes from: class folders, a CSV, or a zip of either, as one list of rows."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from imil_backend.errors import DatasetError
from imil_backend.loop.sources.archives import is_workbook, refuse_other_files, unpack
from imil_backend.loop.sources.class_folders import LOOSE, read_class_folders
from imil_backend.loop.sources.file_names import is_utf8, printable
from imil_backend.loop.sources.paths import Fence, is_file
from imil_backend.loop.sources.rows import SPLIT_NAMES, Columns, Row, Source
from imil_backend.loop.sources.tables.csv_source import has_columns, read_table

__all__ = ["SPLIT_NAMES", "Columns", "Row", "Source", "read_source"]

SHOWN_REASONS = 3
_TABLES = frozenset({".csv", ".tsv"})


def read_source(source: Path, columns: Columns, unpack_to: Path, *, allow_outside: bool = False) -> Source:
    """List what is in a folder, a CSV or a zip.

    Args:
        source: a folder of class folders (with split folders above them or without), a folder that holds
            one CSV, a CSV, or a zip of any of these.
        columns: the columns of the CSV.
        unpack_to: where a zip's files are kept; its folder is named by the zip's content.
        allow_outside: take files, too, that lie outside of the folder, or of the CSV's, and that its paths or
            links lead to. A zip's never do.

    Raises:
        DatasetError: there is no such source, it holds no images, or what was asked means nothing for it.
    """
    if not is_utf8(str(source.absolute())):
        raise DatasetError(
            f"The path {printable(str(source.absolute()))} is not UTF-8. Rename the folder or file, "
            "or use a link to it."
        )
    if not os.path.exists(source):  # noqa: PTH110 - Path.exists() raises where it may not look
        raise DatasetError(f"{source} does not exist. Give a folder, a CSV or a zip.")
    root, is_zip = source, False
    if source.is_file():
        refuse_other_files(source)
        if is_zip := zipfile.is_zipfile(source):
            if allow_outside:
                raise DatasetError("--allow-outside does not apply to a zip. Remove it.")
            root = unpack(source, unpack_to)
    folder = root.parent if root.is_file() else root
    fence = Fence(folder, (source if is_zip else folder.absolute()).name, may_leave=allow_outside)
    found = read_table(root, columns, fence) if root.is_file() else _read_folder(root, columns, fence)
    _keep_inside(found, fence, is_zip)
    if not found.rows:
        raise DatasetError(_no_images(source, root, found))
    return found


def _keep_inside(found: Source, fence: Fence, is_zip: bool) -> None:
    """Set aside what lies outside; where it may be taken, say so."""
    outside: dict[str, Path] = {}
    for row in found.rows:
        for path in filter(None, (row.image, row.mask)):
            if not fence.holds(path):
                outside.setdefault(row.name, path)
    if fence.may_leave and outside:
        first = printable(str(next(iter(outside.values()))))
        found.warnings.append(f"Images or masks outside {fence.name}: {len(outside)} (the first: {first}).")
        return
    found.rows = [row for row in found.rows if row.name not in outside]
    for name, path in outside.items():
        how = "Add it to the zip." if is_zip else "Move it there, or allow it with --allow-outside."
        reason = f"{printable(str(path))} is outside {printable(fence.name)}. {how}"
        found.set_aside.append(("image", printable(name), reason))


def _read_folder(root: Path, columns: Columns, fence: Fence) -> Source:
    """By its CSV, if it has the columns that are wanted or options name some; else by its class folders."""
    try:
        entries = sorted(root.iterdir())
    except OSError as error:
        raise DatasetError(f"{root} cannot be read: {error.strerror}.") from error
    tables = [
        path
        for path in entries
        if path.suffix.casefold() in _TABLES and not path.name.startswith((".", "~")) and path.is_file()
    ]
    names = ", ".join(printable(path.name) for path in tables)
    fitting = [path for path in tables if columns.options or has_columns(path, columns)]
    if len(tables) > 1 and fitting:
        raise DatasetError(
            f"{root.name} contains several tables ({names}). Give the path of the one to import."
        )
    if fitting:
        return _read_table_of(root, fitting[0], columns, fence)
    if columns.options:
        several = len(columns.options) > 1
        raise DatasetError(
            f"{' and '.join(columns.options)} {'do' if several else 'does'} not apply to class "
            "folders. List the images in a CSV with such columns and import that, or omit "
            f"{'them' if several else 'it'}."
        )
    found = read_class_folders(root)
    if tables and len({row.label for row in found.rows}) < 2:
        if len(tables) == 1:
            return read_table(tables[0], columns, fence)  # which says what column it lacks
        raise DatasetError(
            f"{root.name} has no two class folders, and none of its tables ({names}) has the columns "
            "image and label. Give the path of one, and its columns with --image and --label."
        )
    if tables:
        found.warnings.append(
            f"{root.name} was imported by its class folders; {names} was ignored, since it has no "
            "columns image and label. To import it instead, name its columns with --image and --label."
        )
    return found


def _read_table_of(root: Path, table: Path, columns: Columns, fence: Fence) -> Source:
    """By a folder's table, unless none of its images is there, and the folder can be read otherwise."""
    found = read_table(table, columns, fence)
    if found.rows and not any(is_file(row.image) for row in found.rows) and not columns.options:
        classes = sorted({row.label for row in read_class_folders(root).rows})
        if len(classes) > 1:
            raise DatasetError(
                f"{root.name} has a table and class folders, but none of the images that "
                f"{table.name} lists exists (the first: {found.rows[0].name}). To import the table, "
                "say with --image where they are, such as --image 'images/{image}'; to import the "
                f"class folders ({', '.join(classes)}), move the table out of {root.name}."
            )
    return found


def _no_images(source: Path, root: Path, found: Source) -> str:
    """Why there is nothing to import, with what is expected."""
    reasons = " ".join(f"{reference}: {reason}" for _, reference, reason in found.set_aside[:SHOWN_REASONS])
    if reasons:
        return f"{source} contains no usable images. The first reasons: {reasons}"
    expected = (
        "Expected: folders of images named after the classes, or a CSV with the columns image and "
        "label (see `imil import --help`)."
    )
    if loose := found.passed_over.get(LOOSE):
        where = ", ".join(f"{count} in {folder}" for folder, count in loose.most_common(SHOWN_REASONS))
        workbooks = sorted(path.name for path in root.iterdir() if is_workbook(path) and is_utf8(path.name))
        table = f" Save {workbooks[0]} as CSV if it has the labels." if workbooks else ""
        return f"The images in {source} have no labels ({where}). {expected}{table}"
    return f"{source} contains no images. {expected}"
