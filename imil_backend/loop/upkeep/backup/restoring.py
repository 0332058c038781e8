"""A backup put into a data directory, whoever it comes from.

The tar is read as a stream. Only regular files are taken, under the names that a backup has, and written to
paths that are computed here; at its end the manifest must name just these, with their checksums. Everything
lies in a folder of its own until then, and nothing that was there before is touched.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from imil_backend.config import Settings
from imil_backend.errors import BackupError
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.locks import LockTakenError, locked
from imil_backend.loop.base.unfinished import (
    MOST_PARTS,
    READY,
    RESTORING,
    Journal,
    commit,
    discard_restores_of_databases,
    finish,
    names_to_move_aside,
    revoke,
    working_folder,
)
from imil_backend.loop.queues.launching import worker_is_running
from imil_backend.loop.upkeep.backup import relocation
from imil_backend.loop.upkeep.backup.checking import check_databases
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
from imil_backend.loop.upkeep.backup.encryption import UNENCRYPTED, Keys, decrypted
from imil_backend.store import postgres_dump
from imil_backend.store.database import SQLITE_FILE

_CHUNK = 2**20
_MANIFEST_BYTES = 2**28  # of a million files
_MOST_PARTS = MOST_PARTS + 2  # a zip is unpacked in a folder of its own in one for all
_NAME_BYTES = 2**16  # of what precedes an entry whose name is long


def restore(
    settings: Settings,
    source: Path,
    *,
    replace: bool = False,
    keys: Keys = UNENCRYPTED,
    progress: Progress | None = None,
) -> Path:
    """Put a backup into the data directory (and the PostgreSQL database) of the settings.

    Everything is unpacked and checked before anything takes its place.

    Args:
        settings: name the data directory, which may be another than that of the backup, and the database.
        source: the backup.
        replace: move existing data aside instead of refusing.
        keys: what it is opened with, if it is encrypted.
        progress: called with the MiB read, and of all.

    Returns:
        The data directory.

    Raises:
        BackupError: the file is damaged or not a backup, the directory is in use, or contains data already.
        NewerDataError: it was made by a newer version of this package.
    """
    backend = Backend(settings, restores_now=True)
    try:
        with locked(backend, "restore", wait=False):
            _check_free(backend, replace)
            with says_what_failed(f"The backup {source} cannot be restored"):
                _restore(backend, source, keys, progress)
    except LockTakenError as error:
        raise BackupError(f"{backend.directory} is being restored by another process.") from error
    finally:
        backend.close()
    return backend.directory


def _check_free(backend: Backend, replace: bool) -> None:
    if worker_is_running(backend):
        raise BackupError(f"A worker runs on {backend.directory}. Stop it (and `imil serve`) first.")
    occupied = _occupied(backend)
    if occupied and not replace:
        raise BackupError(
            f"{backend.directory} already contains data ({occupied[0]}). Move it aside with "
            "--replace, or set IMIL_DATA_DIR to an empty directory."
        )


def _occupied(backend: Backend) -> list[str]:
    """What of a restored backup's databases is there already."""
    if backend.store.engine.dialect.name != "sqlite":
        return ["a database with tables"] if relocation.has_tables(backend.store.engine) else []
    return [name for name in SQLITE_FILES if (backend.directory / name).exists()]


def _restore(backend: Backend, source: Path, keys: Keys, progress: Progress | None) -> None:
    engine = backend.store.engine
    with working_folder(backend.directory, RESTORING) as folder:
        manifest = _unpack(source, folder, keys, progress)
        if manifest.database != engine.dialect.name:
            raise BackupError(
                f"{source} was made with {manifest.database}, but the settings name "
                f"{engine.dialect.name} (IMIL_DATABASE_URL): set it to a database of that kind."
            )
        databases, ready = folder / DATABASES, folder / READY
        if manifest.database == "sqlite":
            check_databases(databases, source)
        before = Path(manifest.data_dir)
        relocation.relocate_files(ready, before, backend.directory)
        # SQLite's databases move last: without them the directory is empty as far as anyone can tell.
        names = sorted(path.name for path in ready.iterdir())
        journal = Journal(
            source=str(source.absolute()),
            step="files",
            aside=names_to_move_aside(backend.directory),
            names=[*names, *(SQLITE_FILES if manifest.database == "sqlite" else ())],
        )
        if manifest.database == "sqlite":
            relocation.relocate_sqlite(databases / SQLITE_FILE, before, backend.directory)
            for name in SQLITE_FILES:
                (databases / name).rename(ready / name)
        else:
            _replace_postgres(backend, databases / POSTGRES_DUMP, before, folder, journal)
        commit(folder, journal)
        finish(backend.directory, folder)


def _unpack(source: Path, folder: Path, keys: Keys, progress: Progress | None) -> Manifest:
    """Unpack and check a backup; its manifest."""
    ready, databases = folder / READY, folder / DATABASES
    ready.mkdir(mode=0o700)
    databases.mkdir(mode=0o700)
    total = source.stat().st_size
    with source.open("rb") as file, decrypted(file, keys, source) as plain:
        unpacking = _Unpacking(source, {FILES: ready, DATABASES: databases})
        with tarfile.open(fileobj=plain, mode="r|", tarinfo=_Entry) as tar:
            for entry in tar:
                unpacking.take(tar, entry)
                if progress:
                    progress(-(-file.tell() // _CHUNK), -(-total // _CHUNK))
        while rest := plain.read(_CHUNK):
            if rest.strip(b"\0"):
                raise BackupError(f"{source} continues after its end. Use another backup.")
    return unpacking.checked()


class _Entry(tarfile.TarInfo):
    """An entry that is looked at before any of it is read: a tar knows many kinds, and a backup two."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Entry:
        entry = super().frombuf(buf, encoding, errors)
        of_names = entry.type in {tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME} and entry.size <= _NAME_BYTES
        if entry.size < 0 or not (of_names or entry.type in {tarfile.REGTYPE, tarfile.AREGTYPE}):
            raise BackupError(
                f"{entry.name!r} is not a regular file; nothing was restored. Do not use this file."
            )
        return entry


@dataclass
class _Unpacking:
    """What has been unpacked of a backup."""

    source: Path
    places: dict[str, Path]  # by the first part of a name in the tar
    sums: dict[str, str] = field(default_factory=dict)
    manifest: Manifest | None = None

    def take(self, tar: tarfile.TarFile, entry: tarfile.TarInfo) -> None:
        """Write the next entry to its place, and keep its checksum."""
        content = tar.extractfile(entry)
        if self.manifest is not None or content is None or entry.issparse() or entry.size < 0:
            raise self._wrong(entry.name)
        if entry.name == MANIFEST:
            self.manifest = self._read_manifest(content.read(_MANIFEST_BYTES))
            return
        place = self._place(entry.name)
        if entry.name in self.sums:
            raise self._wrong(entry.name)
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.sums[entry.name] = _write(content, place)

    def checked(self) -> Manifest:
        """The manifest, if it names just what was unpacked."""
        manifest, source = self.manifest, self.source
        if manifest is None:
            raise BackupError(f"{source} is not a backup made by imil, or is truncated. Use another backup.")
        for name in sorted(manifest.sha256.keys() ^ self.sums.keys()):
            if name in self.sums:
                raise self._wrong(name)
            raise BackupError(f"{name} is missing in {source}; nothing was restored. Use another backup.")
        for name, digest in manifest.sha256.items():
            if self.sums[name] != digest:
                raise BackupError(f"{name} in {source} is damaged; nothing was restored. Use another backup.")
        databases = {f"{DATABASES}/{name}" for name in manifest.databases}
        if databases != {name for name in self.sums if name.startswith(f"{DATABASES}/")}:
            raise BackupError(f"{source} holds other databases than a backup; nothing was restored.")
        return manifest

    def _place(self, name: str) -> Path:
        """Where a file is unpacked to."""
        top, *parts = name.split("/")
        if (
            top not in self.places
            or not 0 < len(parts) <= _MOST_PARTS
            or not (top == DATABASES or is_backed_up(tuple(parts)))
        ):
            raise self._wrong(name)
        if top == DATABASES and (len(parts) > 1 or parts[0] not in {*SQLITE_FILES, POSTGRES_DUMP}):
            raise self._wrong(name)
        return self.places[top].joinpath(*parts)

    def _read_manifest(self, content: bytes) -> Manifest:
        try:
            manifest = Manifest.model_validate_json(content)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"][:1])
            raise BackupError(
                f"The manifest of {self.source} is damaged ({where}: {first['msg']}); nothing was restored. "
                "Use another backup."
            ) from error
        if manifest.format != FORMAT:
            raise BackupError(
                f"{self.source} was made by imil-backend {manifest.code_version!r}, in another format. "
                "Restore it with that version."
            )
        return manifest

    def _wrong(self, name: str) -> BackupError:
        return BackupError(
            f"{self.source} holds {name[:200]!r}, which does not belong in a backup; nothing was restored. "
            "Do not use this file."
        )


def _write(content: IO[bytes], path: Path) -> str:
    """Write a new file; its SHA-256."""
    digest = hashlib.sha256()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def _replace_postgres(backend: Backend, dump: Path, before: Path, folder: Path, journal: Journal) -> None:
    """Load the tables in one transaction; where it fails, everything is as it was."""
    commit(folder, {**journal, "step": "database"})
    try:
        postgres_dump.load(backend.store.url, dump)
    except BackupError:
        revoke(folder)
        raise
    relocation.relocate_postgres(backend.store.engine, before, backend.directory)
    discard_restores_of_databases(backend.directory, but=folder)
