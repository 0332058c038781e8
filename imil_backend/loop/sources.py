"""Where a data set comes from: class folders, a CSV, or a zip of either, as one list of rows."""

from __future__ import annotations

import csv
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imil_backend.errors import DatasetError
from imil_backend.loop.files import sha256_of

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
IGNORED_FILES = frozenset({"thumbs.db", "desktop.ini", "readme.txt", "readme.md", "license", "license.txt"})
_FIELD = re.compile(r"\{([^{}:]+)(:stem)?\}")


@dataclass(frozen=True)
class Columns:
    """Which columns of a CSV say what.

    Each is a column's name, or a template such as `images/{file}` or `masks/{file:stem}.png`
    (`:stem` drops the suffix).
    """

    image: str = "image"
    label: str = "label"
    split: str | None = None
    group: tuple[str, ...] = ()
    mask: str | None = None


@dataclass(frozen=True)
class Row:
    """One image of a source, before it has been looked at."""

    name: str  # of the image, relative to the source
    image: Path
    label: str
    split: str | None = None  # train, validation or test, as given
    group: str | None = None
    mask: Path | None = None
    address: str | None = None  # of the image in Label Studio's project, where it comes from one
    task: int | None = None  # the task's id there


@dataclass
class Source:
    """The rows of a source, and what of it could not even become a row."""

    rows: list[Row]
    set_aside: list[tuple[str, str, str]] = field(default_factory=list)  # kind, reference, reason
    project: tuple[str, int] | None = None  # Label Studio's address and the project's id, if it is one
    unlabelled: int = 0  # tasks that nobody has answered


def read_source(source: Path, columns: Columns, unpack_to: Path) -> Source:
    """List what is in a folder, a CSV or a zip.

    Args:
        source: a folder of class folders (with split folders above them or without), a folder that holds
            one CSV, a CSV, or a zip of any of these.
        columns: the columns of the CSV.
        unpack_to: where a zip's files are kept; its folder is named by the zip's content.

    Raises:
        DatasetError: there is no such source, or it holds no images.
    """
    if not source.exists():
        raise DatasetError(f"There is no {source}. Name a folder, a CSV or a zip.")
    root = source
    if source.is_file() and zipfile.is_zipfile(source):
        root = _inner_folder(_unpack(source, unpack_to))
    if root.is_file():
        found = _read_csv(root, columns)
    else:
        tables = [path for path in sorted(root.glob("*.csv")) if not path.name.startswith(".")]
        found = _read_csv(tables[0], columns) if len(tables) == 1 else _read_class_folders(root)
    if not found.rows:
        raise DatasetError(
            f"{source} holds no images. Expected are folders named after the classes with images in them, "
            "or a CSV with the columns image and label (see `imil import --help`)."
        )
    return found


def _unpack(archive: Path, unpack_to: Path) -> Path:
    """Unpack once; a folder is there only when it is whole."""
    folder = unpack_to / sha256_of(archive)[:16]
    if folder.exists():
        return folder
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(partial)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise DatasetError(f"{archive.name} cannot be unpacked: {error}.") from error
    partial.replace(folder)
    return folder


def _inner_folder(folder: Path) -> Path:
    """The folder itself, or the only one in it (zips often wrap everything in one)."""
    entries = [entry for entry in folder.iterdir() if entry.name != "__MACOSX"]
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else folder


def _read_class_folders(root: Path) -> Source:
    found = Source([])
    folders = _folders(root)
    others = [folder.name for folder in folders if folder.name.lower() not in SPLIT_NAMES]
    has_splits = bool(folders) and not others
    if others and len(others) < len(folders):
        raise DatasetError(
            f"{root.name} has folders named after splits, and {', '.join(others)} beside them. "
            "Put the class folders into the splits' folders, and take the others away."
        )
    for split_folder in folders if has_splits else [root]:
        split = SPLIT_NAMES[split_folder.name.lower()] if has_splits else None
        for class_folder in _folders(split_folder):
            images = list(_files(class_folder))
            if not images:
                found.set_aside.append(("class", class_folder.name, "This class folder holds no images."))
            for image in images:
                found.rows.append(Row(str(image.relative_to(root)), image, class_folder.name, split))
    return found


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden and path.name.lower() not in IGNORED_FILES:
            yield path


def _read_csv(table: Path, columns: Columns) -> Source:
    found = Source([])
    rows: dict[str, Row] = {}
    refused: set[str] = set()
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            given = _resolve(columns, reader.fieldnames or [], table)
            for record in reader:
                row = _row(record, given, table.parent)
                if (problem := _problem(row, rows)) and row.name not in refused:
                    refused.add(row.name)
                    kind = "image" if row.name else "row"
                    found.set_aside.append(
                        (kind, row.name or f"{table.name}, line {reader.line_num}", problem)
                    )
                rows.setdefault(row.name, row)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{table.name} is no CSV in UTF-8 ({error}), and no whole zip either.") from error
    found.rows = [row for name, row in rows.items() if name not in refused]
    return found


def _resolve(columns: Columns, header: Sequence[str], table: Path) -> Columns:
    """Check that every named column is there; optional ones are found under their usual names."""

    def optional(name: str) -> str | None:
        return name if name in header else None

    resolved = Columns(
        columns.image,
        columns.label,
        columns.split or optional("split"),
        columns.group or tuple(filter(None, [optional("group")])),
        columns.mask or optional("mask"),
    )
    named = [resolved.image, resolved.label, resolved.split, resolved.mask, *resolved.group]
    for spec in filter(None, named):
        for column in _FIELD.findall(spec) or [(spec, "")]:
            if column[0] not in header:
                raise DatasetError(
                    f"{table.name} has no column {column[0]!r}; it has {', '.join(header) or 'none'}. "
                    "Name the columns with --image, --label, --split, --group and --mask."
                )
    return resolved


def _row(record: dict[str, str], columns: Columns, folder: Path) -> Row:
    name = _value(record, columns.image)
    split = _value(record, columns.split).lower() if columns.split else ""
    mask = _value(record, columns.mask) if columns.mask else ""
    group = "/".join(_value(record, column) for column in columns.group)
    return Row(
        name=name,
        image=folder / name,
        label=_value(record, columns.label),
        split=SPLIT_NAMES.get(split, split) or None,
        group=group.strip("/") or None,
        mask=folder / mask if mask else None,
    )


def _value(record: dict[str, str], spec: str) -> str:
    """A column's value, or a template with columns' values put in."""

    def fill(match: re.Match[str]) -> str:
        value = (record.get(match[1]) or "").strip()
        return str(Path(value).with_suffix("")) if match[2] and value else value

    return _FIELD.sub(fill, spec) if "{" in spec else (record.get(spec) or "").strip()


def _problem(row: Row, earlier: Mapping[str, Row]) -> str | None:
    """Why a row, and with it its image, cannot be used; or None."""
    same = earlier.get(row.name, row)
    if not row.name or not row.label:
        return "The image or the label is empty."
    if "|" in row.label or ";" in row.label or same.label != row.label:
        return "It has several labels; one label per image is supported."
    if row.split not in {None, "train", "validation", "test"}:
        return f"It has the split {row.split!r}; train, validation and test are known."
    if same != row:
        return "It is listed several times, with different splits, groups or masks."
    return None
