"""What a backup holds: a tar with the databases first, then the files of the data directory, last a manifest.

What the databases name is there when they are copied and is never changed afterwards, so a backup may be made
while everything runs. The pixel cache is left out: it is made again.
"""

from __future__ import annotations

import sqlite3
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints

from imil_backend.errors import BackupError
from imil_backend.loop.base import timestamps
from imil_backend.loop.base.unfinished import UNPACKING
from imil_backend.loop.queues.engine import DBOS_SQLITE_FILE
from imil_backend.store.database import POSTGRES_COPY, SQLITE_FILE

Progress = Callable[[int, int], None]  # called with what is done, and of how much

FORMAT = 1
MANIFEST = "manifest.json"
DATABASES, FILES = "databases", "files"  # folders in the tar
POSTGRES_DUMP = "postgresql.dump"
# DBOS's first: a step that it does not know of is done again, one that it knows of must have been.
SQLITE_FILES = (DBOS_SQLITE_FILE, SQLITE_FILE)
_LEFT_OUT = ("cache", "locks", timestamps.FOLDER)

_Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_Folder = Annotated[str, StringConstraints(pattern=r"^/[^\x00]*$")]


class Manifest(BaseModel):
    """What a backup says of itself."""

    format: int
    code_version: str = Field(max_length=100)
    made_at: str = Field(max_length=100)
    data_dir: _Folder
    database: Literal["sqlite", "postgresql"]
    sha256: dict[str, _Sha256]  # of each file, by its name in the tar

    @property
    def databases(self) -> tuple[str, ...]:
        """The names of the databases' files."""
        return SQLITE_FILES if self.database == "sqlite" else (POSTGRES_DUMP,)


def is_backed_up(parts: tuple[str, ...]) -> bool:
    """Whether a file of the data directory, by the parts of its path there, belongs into a backup."""
    if parts[0].startswith((*SQLITE_FILES, POSTGRES_COPY)) or parts[0] in _LEFT_OUT:
        return False
    unwanted = parts[0].startswith(".") or parts[-1].startswith(".") or {"", ".", ".."} & set(parts)
    return not unwanted and not any(part.startswith(f".{UNPACKING}-") for part in parts)


@contextmanager
def says_what_failed(what: str) -> Iterator[None]:
    """Turn what may go wrong with files, tars and databases into a BackupError."""
    try:
        yield
    except (OSError, tarfile.TarError, sqlite3.Error, ValueError) as error:
        raise BackupError(f"{what}: {error}.") from error
    except RecursionError as error:  # Python's tar follows one header to the next in a call of its own
        raise BackupError(f"{what}: it is nested too deeply.") from error
