"""What lies in a folder of images and is no sample: system files, thumbnails, documents."""

from __future__ import annotations

import os
import re
from pathlib import PurePath

SYSTEM = "system files"
THUMBNAILS = "thumbnails"
DOCUMENTS = "files that are not images"

_THUMBNAIL_FOLDERS = frozenset(
    {"@eadir", ".@__thumb", ".thumbnails", "thumbnails", "thumbnail", "thumbs", "thumb", ".thumbs", "_thumbs"}
)
_SYSTEM_FOLDERS = frozenset(
    {
        *("system volume information", "lost+found", "found.000", "found.001", "recycler", "recycled"),
        *("#recycle", "#snapshot", "network trash folder", "temporary items", "cvs"),
    }
)
_SYSTEM_FILES = re.compile(
    r"\.|~\$|thumbs\.db|ehthumbs|desktop\.ini$|(zb)?picasa\.ini$|zbthumbnail\.info$|icon\r$"
    r"|.*[:#]zone\.identifier$|.*:encryptable$",
    re.IGNORECASE,
)
_DOCUMENT_NAMES = frozenset(
    {"license", "licence", "readme", "changelog", "authors", "makefile", "dicomdir", "md5sums", "sha256sums"}
)
_DOCUMENT_SUFFIXES = frozenset(
    {
        *(".txt", ".md", ".rst", ".rtf", ".pdf", ".doc", ".docx", ".odt", ".ppt", ".pptx", ".html", ".htm"),
        *(".csv", ".tsv", ".xls", ".xlsx", ".xlsm", ".ods", ".json", ".jsonl", ".xml", ".yaml", ".yml"),
        *(".toml", ".ini", ".cfg", ".log", ".db", ".sqlite", ".py", ".ipynb", ".sh", ".bat"),
        *(".zip", ".gz", ".tgz", ".tar", ".7z", ".rar", ".md5", ".sha256", ".lnk", ".url", ".webloc", ".bak"),
    }
)


def folder_is(name: str) -> str | None:
    """What a folder holds that is no samples, or None."""
    low = name.casefold()
    if low in _THUMBNAIL_FOLDERS:
        return THUMBNAILS
    return SYSTEM if low.startswith((".", "__", "@", "$", "~")) or low in _SYSTEM_FOLDERS else None


def file_is(name: str) -> str | None:
    """What a file is that is no sample, or None; what it holds decides of all others."""
    if _SYSTEM_FILES.match(name):
        return SYSTEM
    low = name.casefold()
    suffix = os.path.splitext(low)[1]  # noqa: PTH122 - it is asked of every file
    return DOCUMENTS if suffix in _DOCUMENT_SUFFIXES or low in _DOCUMENT_NAMES else None


def kind_of(name: str) -> str:
    """What a file that is passed over is counted under: there may be thousands of a kind."""
    if name.startswith("._"):
        return "._*"
    suffix = PurePath(name).suffix
    return f"*{suffix}" if file_is(name) == DOCUMENTS and suffix else name


def count_files(folder: str) -> int:
    """The number of files in a folder and those below it."""
    return sum(len(files) for _, _, files in os.walk(folder))
