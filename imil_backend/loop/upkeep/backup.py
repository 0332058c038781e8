"""Backup and restore in one file: databases, masks, versions, weights, secrets.

A tar: the databases first, then the files of the data directory, last a manifest with a checksum of each.
What the databases refer to exists when they are copied and is never changed afterwards, so a backup may be
made while everything runs. The pixel cache is not included: it is rebuilt.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import func, select

import imil_backend
from imil_backend.config import Settings
from imil_backend.errors import BackupError
from imil_backend.files import replacing, sha256_of
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.queues.engine import DBOS_SQLITE_FILE, worker_is_running
from imil_backend.loop.upkeep import postgres_dump, relocation
from imil_backend.store.database import SQLITE_FILE
from imil_backend.store.tables import Sample

FORMAT = 1
MANIFEST = "manifest.json"
DATABASES, FILES = "databases", "files"  # folders in the tar
POSTGRES_DUMP = "postgresql.dump"
# DBOS's first: a step that it does not know of is done again, one that it knows of must have been.
SQLITE_FILES = (DBOS_SQLITE_FILE, SQLITE_FILE)
LEFT_OUT = ("cache", "locks")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Backup:
    """What a backup holds."""

    files: int
    bytes: int
    images_outside: int  # originals that lie outside the data directory and are not in it


def back_up(backend: Backend, target: Path, progress: Progress | None = None) -> Backup:
    """Write a backup; the file is complete or absent.

    Raises:
        BackupError: something cannot be read or written.
    """
    with _says_what_failed(f"The backup {target} cannot be written"), TemporaryDirectory() as temporary:
        databases = _copy_databases(backend, Path(temporary))
        files = list(_files(backend.directory))
        sums: dict[str, str] = {}
        total = len(databases) + len(files)
        with replacing(target) as unfinished, tarfile.open(unfinished, "w") as tar:
            members = [(f"{DATABASES}/{path.name}", path) for path in databases]
            members += [(f"{FILES}/{path.relative_to(backend.directory)}", path) for path in files]
            for done, (name, path) in enumerate(members, start=1):
                if (digest := _add(tar, name, path)) is not None:
                    sums[name] = digest
                if progress:
                    progress(done, total)
            _add_manifest(tar, backend, sums)
    return Backup(len(sums), target.stat().st_size, _count_images_outside(backend))


def restore(
    settings: Settings, source: Path, *, replace: bool = False, progress: Progress | None = None
) -> Path:
    """Put a backup into the data directory (and the PostgreSQL database) of the settings.

    Everything is unpacked and checked before anything takes its place.

    Args:
        settings: name the data directory, which may be another than that of the backup, and the database.
        source: the backup.
        replace: move existing data aside instead of refusing.
        progress: called with the number of files done, and of all.

    Returns:
        The data directory.

    Raises:
        BackupError: the file is damaged or not a backup, the directory is in use, or contains data already.
    """
    backend = Backend(settings)
    try:
        if worker_is_running(backend):
            raise BackupError(f"A worker runs on {backend.directory}. Stop it (and `imil serve`) first.")
        occupied = _occupied(backend)
        if occupied and not replace:
            raise BackupError(
                f"{backend.directory} already contains data ({occupied[0]}). Move it aside with "
                "--replace, or set IMIL_DATA_DIR to an empty directory."
            )
        with _says_what_failed(f"The backup {source} cannot be restored"):
            _restore(backend, source, progress)
    finally:
        backend.close()
    return backend.directory


def _restore(backend: Backend, source: Path, progress: Progress | None) -> None:
    moment = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    unpacked = backend.directory / f".restoring-{moment}"
    manifest = _unpack(source, unpacked, progress)
    if manifest["database"] != backend.store.engine.dialect.name:
        raise BackupError(
            f"{source} was made with {manifest['database']}, but the settings name "
            f"{backend.store.engine.dialect.name} (IMIL_DATABASE_URL): set it to a database of that kind."
        )
    databases, files = unpacked / DATABASES, unpacked / FILES
    before = Path(manifest["data_dir"])
    relocation.relocate_files(files, before, backend.directory)
    if manifest["database"] == "sqlite":
        relocation.relocate_sqlite(databases / SQLITE_FILE, before, backend.directory)
    else:
        # In one transaction, and first: where it fails, everything is as it was.
        postgres_dump.load(backend.store.url, databases / POSTGRES_DUMP)
        relocation.relocate_postgres(backend.store.engine, before, backend.directory)
        (databases / POSTGRES_DUMP).unlink()
    aside = backend.directory / f".before-restore-{moment}"
    # SQLite's databases move last: without them the directory is empty as far as anyone can tell.
    _move([path for path in backend.directory.iterdir() if not path.name.startswith(".")], aside)
    _move(files.iterdir() if files.exists() else [], backend.directory)
    if manifest["database"] == "sqlite":
        _move([databases / name for name in SQLITE_FILES], backend.directory)
    for folder in (databases, files, unpacked):
        if folder.exists():
            folder.rmdir()


def _move(paths: Any, folder: Path) -> None:
    for path in list(paths):
        folder.mkdir(exist_ok=True)
        path.rename(folder / path.name)


def _occupied(backend: Backend) -> list[str]:
    """What of a restored backup's databases is there already."""
    if backend.store.engine.dialect.name != "sqlite":
        return ["a database with tables"] if relocation.has_tables(backend.store.engine) else []
    return [name for name in SQLITE_FILES if (backend.directory / name).exists()]


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
        if top.name.startswith(".") or top.name in LEFT_OUT or top.name.startswith(SQLITE_FILES):
            continue
        for path in [top] if top.is_file() else sorted(top.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                yield path


def _add(tar: tarfile.TarFile, name: str, path: Path) -> str | None:
    """Add a file; its SHA-256, or None where it is gone (a training's, whose next epoch took its place)."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    with file:
        reading = _Reading(file)
        tar.addfile(tar.gettarinfo(arcname=name, fileobj=file), reading)
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


def _add_manifest(tar: tarfile.TarFile, backend: Backend, sums: dict[str, str]) -> None:
    manifest = {
        "format": FORMAT,
        "code_version": imil_backend.__version__,
        "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "data_dir": str(backend.directory),
        "database": backend.store.engine.dialect.name,
        "sha256": sums,
    }
    with TemporaryDirectory() as folder:
        path = Path(folder) / MANIFEST
        path.write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        tar.add(path, MANIFEST)


def _unpack(source: Path, folder: Path, progress: Progress | None) -> dict[str, Any]:
    """Unpack and check a backup; its manifest."""
    folder.mkdir(parents=True)
    with tarfile.open(source) as tar:
        members = tar.getmembers()
        if not members or members[-1].name != MANIFEST:
            raise BackupError(f"{source} is not a backup made by imil, or is truncated. Use another backup.")
        for done, member in enumerate(members, start=1):
            tar.extract(member, folder, filter="data")
            if progress:
                progress(done, len(members))
    path = folder / MANIFEST
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()
    if manifest["format"] != FORMAT:
        raise BackupError(
            f"{source} was made by imil-backend {manifest['code_version']}, in another format. "
            "Restore it with that version."
        )
    for name, digest in manifest["sha256"].items():
        if sha256_of(folder / name) != digest:
            raise BackupError(f"{name} in {source} is damaged; nothing was restored. Use another backup.")
    return manifest


def _count_images_outside(backend: Backend) -> int:
    inside = f"{backend.directory}/"
    with backend.store.begin() as session:
        outside = select(func.count(Sample.id)).where(~Sample.path.startswith(inside, autoescape=True))
        return session.scalar(outside) or 0


@contextmanager
def _says_what_failed(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, tarfile.TarError, sqlite3.Error, ValueError, KeyError) as error:
        raise BackupError(f"{what}: {error}.") from error
