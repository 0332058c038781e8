"""A CSV as the source of a data set."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from imil_backend.errors import DatasetError
from imil_backend.loop.sources.file_names import printable
from imil_backend.loop.sources.junk import file_is
from imil_backend.loop.sources.paths import Fence, Located, Locator, is_file
from imil_backend.loop.sources.rows import SPLIT_NAMES, Columns, Row, Source
from imil_backend.loop.sources.tables.csv_files import CsvFile, read_csv
from imil_backend.loop.sources.tables.labels import is_missing
from imil_backend.loop.sources.tables.table_header import Header, names_in, value_of

UNLISTED = "files that the table does not list"
BLANK = "blank rows"


@dataclass
class _PartialTable:
    """A table while it is read."""

    table: CsvFile
    columns: Columns
    named: Columns  # by options, so that an empty cell is not taken in silence
    header: Header
    locator: Locator
    found: Source = field(default_factory=lambda: Source([]))
    rows: dict[str, Row] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    empty: Counter[str] = field(default_factory=Counter)  # column -> rows in which it is
    unlabelled: Counter[str] = field(default_factory=Counter)  # labels that stand for none -> rows
    padded: Counter[str] = field(default_factory=Counter)  # labels with blanks after them -> rows
    count: int = 0


def has_columns(path: Path, columns: Columns) -> bool:
    """Whether a CSV has the columns of an image and a label, by these names."""
    try:
        table = read_csv(path, lambda names: _fits(names, columns, path))
        _resolve(columns, Header(table.header, table.name), table.name)
    except DatasetError:
        return False
    return True


def read_table(path: Path, columns: Columns, fence: Fence) -> Source:
    """List the images of a CSV; paths in it are relative to its folder, which the fence is around.

    Raises:
        DatasetError: it cannot be read, lacks a column, or a column that was named is empty throughout.
    """
    table = read_csv(path, lambda names: _fits(names, columns, path))
    header = Header(table.header, table.name)
    resolved = _resolve(columns, header, table.name)
    reading = _PartialTable(table, resolved, columns, header, Locator(path.parent, fence))
    reading.found.warnings += table.warnings
    for line, cells in table.rows():
        _take(reading, line, cells)
    _check_empty(reading)
    found = reading.found
    found.rows = [row for name, row in reading.rows.items() if name not in reading.refused]
    found.warnings += [*_labels_left_out(reading), *_contradictions(found.rows)]
    if not any(is_file(row.image) for row in found.rows):
        found.hint = (
            f"Paths in {table.name} are relative to its folder. A template adds another folder or a "
            "suffix: --image 'images/{" + (columns.image or "image") + "}.png'."
        )
    _count_unlisted(reading)
    return found


def _labels_left_out(reading: _PartialTable) -> list[str]:
    """What was set aside or changed for its label, each label named: one of them may be a class."""
    warnings = []
    name, unlabelled, padded = reading.table.name, reading.unlabelled, reading.padded
    if unlabelled:
        labels = ", ".join(f"{label!r} {count:,}" for label, count in unlabelled.most_common())
        warnings.append(
            f"{name}: rows set aside because they have no label: {unlabelled.total():,} ({labels})."
        )
    if padded:
        example = next(iter(padded))
        warnings.append(
            f"{name}: spaces around labels were removed: {padded.total():,} (such as {example!r})."
        )
    return warnings


def _count_unlisted(reading: _PartialTable) -> None:
    """Count the images that lie beside those of the table and that it does not list."""
    masks = {row.mask for row in reading.rows.values() if row.mask}
    listed = {row.image for row in reading.rows.values()} | masks
    for folder, names in reading.locator.unlisted(listed).items():
        if others := sum(file_is(name) is None for name in names):
            reading.found.pass_over(UNLISTED, str(folder.relative_to(reading.locator.folder)), others)


def _contradictions(rows: list[Row]) -> list[str]:
    """A warning where images lie in a folder that is named after another class than theirs."""
    labels = {row.label for row in rows}
    others = [
        row
        for row in rows
        if row.label not in (folders := row.name.split("/")[:-1]) and not labels.isdisjoint(folders)
    ]
    if not others:
        return []
    return [
        f"Images in a folder that is named after another class: {len(others)} (the first: {others[0].name} "
        f"is {others[0].label!r} in the table). The labels of the table were used."
    ]


def _fits(names: list[str], columns: Columns, path: Path) -> bool:
    header = Header(names, printable(path.name))
    return header.has(columns.image or "image") and header.has(columns.label or "label")


def _resolve(columns: Columns, header: Header, table: str) -> Columns:
    """Check that every named column is there; optional ones are found under their usual names."""

    def optional(name: str) -> str | None:
        return name if header.has(name) else None

    resolved = Columns(
        columns.image or "image",
        columns.label or "label",
        columns.split or optional("split"),
        columns.group or tuple(filter(None, [optional("group")])),
        columns.mask or optional("mask"),
        columns.missing_labels,
    )
    named = [resolved.image, resolved.label, resolved.split, resolved.mask, *resolved.group]
    for name in (name for spec in filter(None, named) for name in names_in(spec)):
        if header.find(name) is None:
            raise DatasetError(
                f"{table} has no column {name!r}; it has {header.shown}. "
                "Name the columns with --image, --label, --split, --group and --mask."
            )
    return resolved


def _take(reading: _PartialTable, line: int, cells: list[str]) -> None:
    """Add a row, or set it aside."""
    found, where = reading.found, f"{reading.table.name}, line {line}"
    if not any(cell.strip() for cell in cells):
        found.pass_over(BLANK, reading.table.name)
        return
    reading.count += 1
    _note_padded(reading, cells)
    width = len(reading.header.names)
    if any(cell.strip() for cell in cells[width:]):
        reason = (
            f"It has {len(cells)} cells, but the header has {width}. If a cell contains the "
            "separator, put the cell in quotes."
        )
        found.set_aside.append(("row", where, reason))
        return
    row, problem = _row(reading, cells)
    problem = problem or _problem(row, reading.rows) or _swallowed(reading, cells)
    if problem and (not row.name or row.name not in reading.refused):
        reading.refused.add(row.name)
        found.set_aside.append(("image" if row.name else "row", row.name or where, problem))
    reading.rows.setdefault(row.name, row)


def _row(reading: _PartialTable, cells: list[str]) -> tuple[Row, str | None]:
    """The row of these cells, and why it cannot be used."""
    columns, header = reading.columns, reading.header
    given = value_of(cells, columns.image or "", header)
    image = reading.locator.locate(given) if given else Located(reading.locator.folder, "")
    label = value_of(cells, columns.label or "", header)
    split = _or_nothing(cells, columns.split, header).casefold()
    mask = _or_nothing(cells, columns.mask, header)
    found_mask = reading.locator.locate(mask) if mask else None
    groups = [_or_nothing(cells, column, header) for column in columns.group]
    row = Row(
        name=image.name,
        image=image.path,
        label=label,
        split=SPLIT_NAMES.get(split, split) or None,
        group="/".join(groups).strip("/") or None,
        mask=found_mask.path if found_mask else None,
    )
    problem = _note_empty(reading, row, groups)
    if found_mask and found_mask.problem:
        problem = f"Its mask {mask} is ambiguous: {found_mask.problem}"
    if is_missing(label, columns.missing_labels):
        reading.unlabelled[label] += 1
    if label and is_missing(label, columns.missing_labels):
        problem = f"Its label is {label!r}, a word for a missing label. If it is a class, rename it."
    return row, image.problem or problem


def _swallowed(reading: _PartialTable, cells: list[str]) -> str | None:
    """What a stray quote does: the rows up to the next quote become part of a cell."""
    column = reading.header.find(reading.columns.image or "")
    if column is None or column >= len(cells) or not any("\n" in cell for cell in cells):
        return None
    suffix = os.path.splitext(cells[column].strip())[1]  # noqa: PTH122
    lines = [line.split(reading.table.separator) for cell in cells for line in cell.splitlines()[1:]]
    alike = [line for line in lines if len(line) == len(reading.header.names)]
    if suffix and any(line[column].strip().endswith(suffix) for line in alike):
        return "One of its cells contains lines that look like rows. Is a quote missing or superfluous?"
    return None


def _note_padded(reading: _PartialTable, cells: list[str]) -> None:
    column = reading.header.find(reading.columns.label or "")
    if column is not None and column < len(cells) and cells[column] != cells[column].strip():
        reading.padded[cells[column]] += 1


def _note_empty(reading: _PartialTable, row: Row, groups: list[str]) -> str | None:
    """Count empty cells; where an option named the column, they are a reason to set the row aside."""
    columns, named = reading.columns, reading.named
    empty = [column for column, value in zip(columns.group, groups, strict=True) if not value]
    if columns.split and row.split is None:
        empty.append(columns.split)
    reading.empty.update(empty)
    missing = [column for column in empty if column in (*named.group, named.split)]
    return f"It has no {' and no '.join(map(repr, missing))}, which an option requires." if missing else None


def _check_empty(reading: _PartialTable) -> None:
    """Refuse what an option names and no row has; warn of what some rows lack."""
    named = dict.fromkeys(reading.named.group, "--group")
    if reading.named.split:
        named[reading.named.split] = "--split"
    for column, count in reading.empty.items():
        if column not in named and count < reading.count:
            reading.found.warnings.append(
                f"{reading.table.name}: rows without {column!r}: {count} of {reading.count}. A "
                "missing split is drawn at random; without a group an image is its own group. "
                f"--{column} {column} sets such rows aside."
            )
        elif column in named and count == reading.count:
            raise DatasetError(
                f"{reading.table.name}: the column {column!r} is empty in every row. Choose another "
                f"one, or omit {named[column]}."
            )


def _problem(row: Row, earlier: Mapping[str, Row]) -> str | None:
    """Why a row, and with it its image, cannot be used; or None."""
    same = earlier.get(row.name, row)
    if not row.name or not row.label:
        return "The image or the label is empty."
    if "|" in row.label or ";" in row.label or same.label != row.label:
        return "It has several labels; one label per image is supported."
    if row.split not in {None, "train", "validation", "test"}:
        return f"Its split is {row.split!r}; it must be train, validation or test."
    if same != row:
        return "It is listed several times, with different splits, groups or masks."
    return None


def _or_nothing(cells: list[str], spec: str | None, header: Header) -> str:
    """The value of a column that need not be there; NaN and its kin are nothing."""
    value = value_of(cells, spec, header) if spec else ""
    return "" if is_missing(value) else value
