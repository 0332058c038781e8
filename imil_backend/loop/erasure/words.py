"""Finds and removes, in files, what names the samples of an erasure."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from imil_backend.files import write_atomically
from imil_backend.learning.contract.training_job import read_json, write_json
from imil_backend.loop.erasure.plan import Plan

_CHUNK, _LOOKED_AT = 2**20, 4096  # bytes
ERASED = "[erased]"
_SEPARATOR, _AROUND = re.compile(r"[,;\t|]"), " \r\n\"'\ufeff"
Told = Callable[[str], object]  # whether a text names one of the samples, as its truth
_BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


def pattern_of(plan: Plan) -> re.Pattern[str]:
    """Finds the words of a plan, and none as a part of a longer one."""
    words = "|".join(re.escape(word) for word in sorted(plan.words, key=len, reverse=True))
    return re.compile(rf"(?<![\w-])(?:{words})(?![\w-])" if words else r"(?!)")


def told_in_text(plan: Plan) -> Told:
    """Tells texts that people read and that name a sample, be it by a number or a short word by itself."""
    anywhere, alone = pattern_of(plan), _alone(plan)
    return lambda text: anywhere.search(text) or alone.search(text)


def _alone(plan: Plan) -> re.Pattern[str]:
    """Finds what is a cell of its own in a table, as a word of its own and not in a decimal fraction."""
    words = "|".join(re.escape(cells[0]) for cells in plan.cells if len(cells) == 1)
    return re.compile(rf"(?<![\w-])(?<!\d\.)(?:{words})(?![\w-])(?!\.\d)" if words else r"(?!)")


def told_in_row(plan: Plan) -> Told:
    """Tells rows of tables that name a sample."""
    anywhere, wanted = pattern_of(plan), [{cell_of(each) for each in cells} for cells in plan.cells]
    singles = {cell for cells in wanted if len(cells) == 1 for cell in cells}
    several = [cells for cells in wanted if len(cells) > 1]

    def told(row: str) -> object:
        there = cells_in(row)
        alike = not singles.isdisjoint(there) or any(cells <= there for cells in several)
        return alike or anywhere.search(row)

    return told


def cells_in(row: str) -> set[str]:
    """The cells of a row, whatever separates them."""
    return {cell_of(each) for each in _SEPARATOR.split(row)}


def cell_of(text: str) -> str:
    """A cell, written as all are that an import takes for the same."""
    return unicodedata.normalize("NFC", text.strip(_AROUND).replace("\\", "/")).casefold()


def mentions(path: Path, plan: Plan) -> bool:
    """Whether a file holds one of the words, in UTF-8, escaped as in JSON, or in UTF-16."""
    words = {word.encode(name) for word in plan.words for name in ("utf-8", "unicode_escape", "utf-16-le")}
    if not words:
        return False
    either = b"|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    found = re.compile(rb"(?<![\w-])(?:" + either + rb")(?![\w-])")
    longest, before = max(map(len, words)) + 1, b""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            before += chunk
            if found.search(before):
                return True
            before = before[-longest:]
    return False


def without_samples(value: Any, keys: Collection[str], pattern: re.Pattern[str]) -> Any:
    """A JSON value without some samples: their records, and their places in lists beside a list of keys."""
    if isinstance(value, dict):
        listed = value.get("keys")
        if isinstance(listed, list) and any(key in keys for key in listed):
            value = _without_places(value, [key not in keys for key in listed])
        return {
            name: without_samples(inner, keys, pattern) for name, inner in value.items() if name not in keys
        }
    if isinstance(value, list):
        return [without_samples(inner, keys, pattern) for inner in value if not _is_of(inner, keys)]
    return pattern.sub(ERASED, value) if isinstance(value, str) else value


def _is_of(value: Any, keys: Collection[str]) -> bool:
    """Whether an item of a list is a sample's key, or a record of it."""
    told = value.get("key") if isinstance(value, dict) else value
    return isinstance(told, str) and told in keys


def _without_places(value: Any, kept: list[bool]) -> Any:
    """All lists as long as the list of keys, without the places that are not kept."""
    if isinstance(value, dict):
        return {name: _without_places(inner, kept) for name, inner in value.items()}
    if isinstance(value, list) and len(value) == len(kept):
        return [inner for inner, stays in zip(value, kept, strict=True) if stays]
    return value


def clean_json(path: Path, plan: Plan) -> None:
    """Write a JSON file again without the samples; its permissions stay."""
    mode = path.stat().st_mode
    write_json(path, without_samples(read_json(path), set(plan.keys), pattern_of(plan)))
    path.chmod(mode)


def clean_json_lines(path: Path, plan: Plan) -> None:
    """Write a file with a line of JSON for each record again without the samples; its permissions stay."""
    mode, keys, pattern = path.stat().st_mode, set(plan.keys), pattern_of(plan)
    with path.open(encoding="utf-8") as file:
        records = [without_samples(json.loads(line), keys, pattern) for line in file if line.endswith("\n")]
    written = "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in records)
    write_atomically(path, written.encode())
    path.chmod(mode)


def clean_lines(path: Path, told: Told) -> None:
    """Write a text file again without the lines that name one of the samples; its permissions stay."""
    mode = path.stat().st_mode
    lines, encoding = read_lines(path)
    kept = [line for line in lines if not told(line)]
    if len(kept) < len(lines):
        write_atomically(path, "".join(kept).encode(encoding, errors="surrogateescape"))
        path.chmod(mode)


def read_lines(path: Path) -> tuple[list[str], str]:
    """The lines of a text file with their ends, and its encoding."""
    data = path.read_bytes()
    marked = next((name for mark, name in _BYTE_ORDER_MARKS.items() if data.startswith(mark)), None)
    encoding = marked or ("utf-8" if _is_utf8(data) else "windows-1252")
    return data.decode(encoding, errors="surrogateescape").splitlines(keepends=True), encoding


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def is_text(path: Path) -> bool:
    """Whether a file is a text in an encoding that is read here."""
    with path.open("rb") as file:
        start = file.read(_LOOKED_AT)
    return start.startswith(tuple(_BYTE_ORDER_MARKS)) or b"\0" not in start
