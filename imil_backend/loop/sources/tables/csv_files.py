"""A CSV as people have it: its encoding and its separator found out, its header and its rows of cells."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from imil_backend.errors import DatasetError
from imil_backend.loop.sources.file_names import printable

SEPARATORS = (",", ";", "\t", "|")
SAVE_AS_UTF8 = "Save it as UTF-8 (Excel: 'CSV UTF-8'; LibreOffice: character set 'Unicode (UTF-8)')."
_MARKS = (  # the longer ones first: that of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SEPARATOR_LINE = re.compile(r'"?sep=([^\w\s"]|\t)"?[ ,;]*(\r\n|\r|\n)', re.IGNORECASE)  # Excel's own
# Runs of letters outside ASCII (Greek, Chinese), control characters, and what Macintosh's and DOS's umlauts
# would be: none of them is in words of western languages.
_NOT_WINDOWS = re.compile(
    r"[^\x00-\x7f]{3}|[\x00-\x08\x0e-\x1f]|[a-z][ŠŸŽ]"
    r"|[^\W\d_][§†‡¤¶¬¢£¥„”‰¦\u201a\u02c6\u2039\u203a][^\W\d_]"
)
_END = "\x1eend\x1e"  # a row of its own, unless a quote before it was never closed


@dataclass
class CsvFile:
    """A CSV in memory."""

    name: str
    header: list[str]  # without blanks around
    separator: str
    warnings: list[str] = field(default_factory=list)
    _text: str = ""
    _skipped: int = 0  # lines before what is read

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Each row's last line, from 1, and its cells; the header and rows without a cell are left out.

        Raises:
            DatasetError: a quote is opened and never closed.
        """
        rows = _rows(f"{self._text}\n{_END}\n", self.separator)
        last: list[str] = []
        next(row for _, row in rows if row)  # the header
        started = 1
        for line, last in rows:
            if last == [_END]:
                return
            if any(_END in cell for cell in last):
                break
            if last:
                yield line + self._skipped, last
                started = line + 1
        raise DatasetError(
            f"{self.name}: a quote in the row that begins in line {started + self._skipped} is never "
            "closed, so all rows after it would be one cell. Close it, or double it if it is part of "
            "the text."
        )


def read_csv(path: Path, is_header: Callable[[list[str]], bool]) -> CsvFile:
    """Read a CSV whole.

    Args:
        path: the file, in UTF-8, in UTF-16 or UTF-32 with a mark, or in Windows-1252.
        is_header: whether a header has the columns that are wanted; decides between separators.

    Raises:
        DatasetError: it has another encoding, or is not a CSV.
    """
    name = printable(path.name)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{name} cannot be read: {error.strerror}.") from error
    text, warnings = _decode(data, name)
    skipped = 0
    separators: tuple[str, ...] = SEPARATORS
    if match := _SEPARATOR_LINE.match(text):
        skipped, separators, text = 1, (match[1],), text[match.end() :]
    headers = [(_header(text, separator), separator) for separator in separators]
    fitting = [entry for entry in headers if is_header(entry[0])]
    header, separator = fitting[0] if fitting else max(headers, key=lambda entry: len(entry[0]))
    return CsvFile(name, header, separator, warnings, text, skipped)


def _header(text: str, separator: str) -> list[str]:
    first = next((row for _, row in _rows(text, separator) if row), [])
    return [cell.strip().strip("\ufeff") for cell in first]


def _rows(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Line and cells of each row; a cell may be as long as the file."""
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))  # the default is 131,072 characters
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    for row in reader:
        yield reader.line_num, row


def _decode(data: bytes, name: str) -> tuple[str, list[str]]:
    """The text, and what is to be warned of."""
    encoding = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), _unmarked(data))
    warnings = []
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise DatasetError(
                f"{name} is not valid {encoding.upper()} ({error.reason}). {SAVE_AS_UTF8}"
            ) from error
        text, example = _decode_windows(data, name, error)
        warnings.append(
            f"{name} is not UTF-8 and was read as Windows-1252 (such as {example!r}). If that is wrong: "
            f"{SAVE_AS_UTF8}"
        )
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DatasetError(
            f"{name} contains NUL characters (the first in line {line}): it is damaged or not a CSV."
        )
    return text, warnings


def _unmarked(data: bytes) -> str:
    """UTF-16 shows by a zero in each of its first letters; else UTF-8 is tried first."""
    start = data[:64]
    if len(start) >= 4 and not any(start[1::2]) and all(start[::2]):
        return "utf-16-le"
    if len(start) >= 4 and not any(start[::2]) and all(start[1::2]):
        return "utf-16-be"
    return "utf-8"


def _decode_windows(data: bytes, name: str, error: UnicodeDecodeError) -> tuple[str, str]:
    """As Windows-1252, with a word as an example, if it looks like that."""
    line = data.count(b"\n", 0, error.start) + 1
    refusal = DatasetError(f"{name} is neither UTF-8 nor Windows-1252 (line {line}). {SAVE_AS_UTF8}")
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError as other:
        raise refusal from other
    example = re.search(r"\w*[^\x00-\x7f]+\w*", text)
    if example is None or _NOT_WINDOWS.search(text):
        raise refusal from error
    return text, example[0]
