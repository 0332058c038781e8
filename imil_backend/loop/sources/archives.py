"""A zip as the source of a data set, and files that are neither a zip nor a CSV."""

from __future__ import annotations

import lzma
import shutil
import zipfile
import zlib
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from imil_backend.errors import DatasetError
from imil_backend.files import sha256_of
from imil_backend.images.reading import image_format
from imil_backend.loop.base.unfinished import MOST_PARTS, UNPACKING, working_folder
from imil_backend.loop.sources.junk import folder_is

_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
)
_UTF8_NAME = 0x800  # the flag of a member whose name is UTF-8
# Pixels that nobody compressed (DICOM, BMP, TIFF) become a tenth; films on a black ground a thirtieth.
_MOST_TIMES, _ALWAYS_ALLOWED = 100, 64 * 2**20
_BLOCK = 4096  # bytes that a file takes at least
_KEPT_FREE = 2**30  # bytes of the disk
_OFFICE_SUFFIXES = frozenset({".xlsx", ".xlsm", ".xls", ".ods", ".numbers"})
_ARCHIVES = (
    (b"PK\x03\x04", "a truncated or damaged zip. Copy it again"),
    (b"\x1f\x8b", "compressed with gzip. Unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive. Unpack it first"),
    (b"Rar!", "a RAR archive. Unpack it first"),
    (b"BZh", "compressed with bzip2. Unpack it first"),
    (b"\xfd7zXZ", "compressed with xz. Unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd. Unpack it first"),
    (b"PAR1", "a Parquet file. Save the table as CSV"),
    (b"SQLite format 3", "a database. Save the table as CSV"),
    (b"%PDF", "a PDF. Save the table as CSV"),
)


def refuse_other_files(file: Path) -> None:
    """Refuse what is neither a zip of images nor a CSV, and say what to do.

    Raises:
        DatasetError: a workbook, an archive of another kind, a single image, ...
    """
    try:
        with file.open("rb") as opened:
            start = opened.read(300)
    except OSError as error:
        raise DatasetError(f"{file.name} cannot be read: {error.strerror}.") from error
    whole_zip = zipfile.is_zipfile(file)
    if is_workbook(file) or start.startswith(b"\xd0\xcf\x11\xe0") or (whole_zip and _is_office(file)):
        raise DatasetError(
            f"{file.name} is a workbook. Save the sheet with the images and labels as CSV (Excel: 'CSV "
            "UTF-8') and import that."
        )
    for mark, what in _ARCHIVES:
        if start.startswith(mark) and not whole_zip:
            raise DatasetError(f"{file.name} is {what}.")
    if start[257:262] == b"ustar":
        raise DatasetError(f"{file.name} is a tar archive. Unpack it first.")
    if kind := image_format(start):
        raise DatasetError(
            f"{file.name} is a single image ({kind}). Give the folder that contains the class "
            "folders, or a CSV."
        )


def is_workbook(file: Path) -> bool:
    """Whether a file is called like one of Excel's kin."""
    return file.suffix.casefold() in _OFFICE_SUFFIXES


def _is_office(file: Path) -> bool:
    try:
        with zipfile.ZipFile(file) as opened:
            return "[Content_Types].xml" in opened.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False  # told when it is unpacked


def unpack(archive: Path, unpack_to: Path) -> Path:
    """Unpack a zip once; a folder is there only when it is whole.

    What it is to hold is known before anything is unpacked: a zip of some megabytes may stand for petabytes.

    Returns:
        The folder, or the only one in it (zips often wrap everything in one).

    Raises:
        DatasetError: it is damaged, larger than a data set can be, or the disk is full.
    """
    folder = unpacked_folder(archive, unpack_to)
    if not folder.exists():
        try:
            unpack_to.mkdir(parents=True, exist_ok=True)
            with working_folder(unpack_to, UNPACKING) as working:
                _extract(archive, working / folder.name)
                (working / folder.name).replace(folder)
        except _DAMAGED as error:
            raise DatasetError(f"{archive.name} cannot be unpacked: {error}.") from error
    return _inner_folder(folder)


def unpacked_folder(archive: Path, unpack_to: Path) -> Path:
    """Where a zip is unpacked, named by its content."""
    status = archive.stat()
    return unpack_to / _sha256(archive, status.st_size, status.st_mtime_ns)[:16]


@lru_cache(maxsize=1)
def _sha256(archive: Path, _size: int, _time: int) -> str:
    return sha256_of(archive)


def _check_size(opened: zipfile.ZipFile, archive: Path, disk: Path) -> None:
    """Refuse what becomes far more than it is, or more than the disk should hold.

    No more of a member is unpacked than its entry says, whatever its data would give.
    """
    size = sum(max(member.file_size, _BLOCK) for member in opened.infolist())
    packed = archive.stat().st_size
    free = shutil.disk_usage(disk).free - _KEPT_FREE
    if size > max(_MOST_TIMES * packed, _ALWAYS_ALLOWED):
        raise DatasetError(
            f"{archive.name} has {packed / 2**20:,.0f} MiB and would become {size / 2**20:,.0f}: no images "
            "are packed so much. If it is yours, unpack it yourself and import the folder."
        )
    if size > free:
        raise DatasetError(
            f"{archive.name} would become {size / 2**20:,.0f} MiB, and {max(0, free) / 2**20:,.0f} MiB can "
            "be taken of the disk that IMIL_DATA_DIR is on. Make room, or name another place."
        )


def _extract(archive: Path, folder: Path) -> None:
    """Unpack with the names that were meant; `extract` keeps them below the folder."""
    written: set[str] = set()
    with zipfile.ZipFile(archive) as opened:
        _check_size(opened, archive, folder.parent)
        for member in opened.infolist():
            member.filename = _meant_name(member)
            if not member.is_dir() and member.filename in written:
                raise zipfile.BadZipFile(f"it holds {member.filename} twice")
            written.add(member.filename)
            opened.extract(member, folder)


def _meant_name(member: zipfile.ZipInfo) -> str:
    """A member's name with slashes, for some programs write backslashes, and read as UTF-8 where it is that.

    Without the flag for UTF-8 a name is in code page 437, says the format; macOS and others write UTF-8.
    """
    name = member.filename
    if not member.flag_bits & _UTF8_NAME:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    name = name.replace("\\", "/")
    if not name:
        raise zipfile.BadZipFile("it holds a file without a name")
    if len(name.rstrip("/").split("/")) > MOST_PARTS:
        raise zipfile.BadZipFile(f"{name[:100]}... has more than {MOST_PARTS} parts")
    return name


def _inner_folder(folder: Path) -> Path:
    entries = [entry for entry in folder.iterdir() if not folder_is(entry.name)]
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else folder
