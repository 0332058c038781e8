"""A backup of everything, made while everything runs."""

from __future__ import annotations

import hashlib
import io
import os
import sqlite3
import tarfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

import imil_backend
from imil_backend.files import replacing, unfinished
from imil_backend.loop.base import audit, timestamps
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.locks import CLEANUP, locked
from imil_backend.loop.base.unfinished import BACKING_UP, note_partial, working_folder
from imil_backend.loop.upkeep.backup.contents import (
    DATABASES,
    FILES,
    FORMAT,
    MANIFEST,
    POSTGRES_DUMP,
    SQLITE_FILES,
    Manifest,
    Progress,
    is_backed_up,
    says_what_failed,
)
from imil_backend.loop.upkeep.backup.encryption import UNENCRYPTED, Keys, encrypted
from imil_backend.loop.versions.removed_weights import removed_weights
from imil_backend.store import postgres_dump
from imil_backend.store.tables import Dataset, Sample


@dataclass(frozen=True)
class Backup:
    """What a backup holds."""

    files: int
    bytes: int
    images_outside: int  # originals that lie outside the data directory and are not in it
    without_weights: int  # versions whose weights had been removed


def back_up(
    backend: Backend, target: Path, progress: Progress | None = None, *, keys: Keys = UNENCRYPTED
) -> Backup:
    """Write a backup; the file is complete or absent, and readable by this user only.

    It waits for a cleanup that is under way, and none begins until it is written.

    Args:
        backend: of what.
        target: the file.
        progress: called with the number of files done, and of all.
        keys: what it is encrypted with.

    Raises:
        BackupError: something cannot be read or written, or the keys cannot be used.
    """
    with (
        says_what_failed(f"The backup {target} cannot be written"),
        locked(backend, CLEANUP),
        working_folder(backend.directory, BACKING_UP) as folder,
    ):
        note_partial(folder, unfinished(target))
        databases = _copy_databases(backend, folder)
        with (
            replacing(target) as partial,
            os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file,
            encrypted(file, keys) as plain,
            tarfile.open(fileobj=plain, mode="w|") as tar,
        ):
            sums = _add_all(tar, backend, databases, progress)
    timestamps.touch(backend, timestamps.BACKUP)
    _note(backend, target)
    return Backup(
        len(sums), target.stat().st_size, _count_images_outside(backend), _count_without_weights(backend)
    )


def _note(backend: Backend, target: Path) -> None:
    """In the audit trail of each dataset: who erases something wants to know where it still is."""
    with backend.store.begin() as session:
        for dataset_id in session.scalars(select(Dataset.id)):
            audit.note(session, dataset_id, audit.BACKED_UP, file=str(target))


def _add_all(
    tar: tarfile.TarFile, backend: Backend, databases: list[Path], progress: Progress | None
) -> dict[str, str]:
    """Add the databases, the files and the manifest; the SHA-256 of each by its name."""
    members = [(f"{DATABASES}/{path.name}", path) for path in databases]
    members += [
        (f"{FILES}/{path.relative_to(backend.directory)}", path) for path in _files(backend.directory)
    ]
    sums: dict[str, str] = {}
    for done, (name, path) in enumerate(members, start=1):
        if (digest := _add(tar, name, path)) is not None:
            sums[name] = digest
        if progress:
            progress(done, len(members))
    manifest = Manifest(
        format=FORMAT,
        code_version=imil_backend.__version__,
        made_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        data_dir=str(backend.directory),
        database=backend.store.engine.dialect.name,
        sha256=sums,
    )
    content = manifest.model_dump_json(indent=1).encode()
    entry = tarfile.TarInfo(MANIFEST)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))
    return sums


def _copy_databases(backend: Backend, folder: Path) -> list[Path]:
    """Consistent copies, made while others write."""
    if backend.store.engine.dialect.name != "sqlite":
        return [postgres_dump.dump(backend.store.url, folder / POSTGRES_DUMP)]
    copies = []
    for name in SQLITE_FILES:
        with (
            closing(sqlite3.connect(backend.directory / name)) as database,
            closing(sqlite3.connect(folder / name)) as copy,
        ):
            database.backup(copy)
        copies.append(folder / name)
    return copies


def _files(directory: Path) -> Iterator[Path]:
    """The files of a data directory, without its databases and what need not be kept."""
    for top in sorted(directory.iterdir()):
        for path in [top] if top.is_file() else sorted(top.rglob("*")):
            if is_backed_up(path.relative_to(directory).parts) and path.is_file():
                yield path


def _add(tar: tarfile.TarFile, name: str, path: Path) -> str | None:
    """Add a file; its SHA-256, or None where it is gone (a training's, whose next epoch took its place)."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    with file:
        reading = _Reading(file)
        entry = tarfile.TarInfo(name)
        status = os.fstat(file.fileno())
        entry.size, entry.mtime, entry.mode = status.st_size, int(status.st_mtime), 0o600
        tar.addfile(entry, reading)
        return reading.digest.hexdigest()


class _Reading:
    """A file whose content is hashed on its way."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._file.read(size)
        self.digest.update(data)
        return data


def _count_images_outside(backend: Backend) -> int:
    inside = f"{backend.directory}/"
    with backend.store.begin() as session:
        outside = select(func.count(Sample.id)).where(~Sample.path.startswith(inside, autoescape=True))
        return session.scalar(outside) or 0


def _count_without_weights(backend: Backend) -> int:
    with backend.store.begin() as session:
        return sum(len(removed_weights(session, each)) for each in session.scalars(select(Dataset.id)))
