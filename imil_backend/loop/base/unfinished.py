"""Work under way in a data directory, in folders that are settled at the next start if it is killed.

A backup's and a restore's copies lie in such a folder, and a zip while it is unpacked. Whoever works in it
holds the lock of a file in it, so that others can tell a folder in use from one that was left behind. Beside
what was unpacked lies such a file until its samples are stored.

A restore changes what is there only once everything is unpacked, checked and ready. Then it writes down what
it is about to do, and from there on the next start goes on with it.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal, TypedDict

from imil_backend.errors import StoreError
from imil_backend.files import write_atomically

BACKING_UP, RESTORING, UNPACKING = "backing-up", "restoring", "unpacking"  # kinds of folders
_IMPORTING = ".importing-"  # and the name of what is unpacked: the lock of its import, empty if it was there
UNPACKED = "datasets"  # the folder in which zips are unpacked
MOST_PARTS = 50  # of a name in what is unpacked: removing folders goes as deep as Python's stack
READY = "ready"  # in a restore's folder: what takes whose place, put there by folders of these names
ASIDE = ".before-restore-"
_STAYS = "locks"  # held by whoever restores
_LOCK, _PARTIAL, _JOURNAL = "lock", "partial", "journal.json"
_SECONDS_BETWEEN_TRIES = 0.05
_PATIENCE = 5.0  # seconds, for another process that settles what was left behind
_IMPORT_INTERRUPTED = "An import was interrupted; what it had unpacked has been removed. Start it again."

logger = logging.getLogger(__name__)


class Journal(TypedDict):
    """What a restore is about to do."""

    source: str  # the backup
    step: Literal["database", "files"]  # replacing PostgreSQL's tables, or the files
    aside: list[str]  # of the data directory, to be moved aside
    names: list[str]  # in READY, to take their place; in this order


@contextmanager
def working_folder(directory: Path, kind: str) -> Iterator[Path]:
    """A new folder to work in, on the disk of the data directory, for this user alone.

    It goes when the block ends, however it ends; if it is killed, at the next start.
    """
    while True:
        began = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        folder = Path(tempfile.mkdtemp(prefix=f".{kind}-{began}-", dir=directory))
        with (folder / _LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_there(folder / _LOCK, lock):  # another process took it for one that was left behind
                continue
            try:
                yield folder
            finally:
                if folder.exists() and _journal(folder) is None:
                    shutil.rmtree(folder)
            return


@contextmanager
def importing(unpacked: Path, is_used: Callable[[str], bool]) -> Iterator[None]:
    """Import what is unpacked to a folder, one process at a time.

    If the block fails or is killed, the folder goes, now or at the next start, unless it was there before or
    is used: whether it is, by its name, is asked then.
    """
    path = unpacked.with_name(f"{_IMPORTING}{unpacked.name}")
    while True:
        with path.open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_there(path, lock):  # another process has just ended with it
                continue
            if not unpacked.exists():
                lock.write(b"new")
                lock.flush()
            try:
                yield
            except BaseException:
                with suppress(StoreError):  # then the next start asks
                    _remove_if_unused(path, is_used)
                raise
            path.unlink()
            return


def note_partial(folder: Path, partial: Path) -> None:
    """Note a file outside of the folder that goes with it."""
    (folder / _PARTIAL).write_bytes(os.fsencode(partial))


def commit(folder: Path, journal: Journal) -> None:
    """Write down what a restore is about to do: from here on it is finished, not undone."""
    if journal["step"] == "files":
        os.sync()  # the files that are to take the place of others are on the disk
    write_atomically(folder / _JOURNAL, json.dumps(journal).encode())


def revoke(folder: Path) -> None:
    """Take back what was written down: nothing of it has been done."""
    (folder / _JOURNAL).unlink()


def names_to_move_aside(directory: Path) -> list[str]:
    """What a restore moves aside: all but work under way, and locks, which are held."""
    return sorted(
        path.name for path in directory.iterdir() if not path.name.startswith(".") and path.name != _STAYS
    )


def finish(directory: Path, folder: Path) -> None:
    """Do what the journal of a restore says; what of it is done already is not done again."""
    journal = _journal(folder)
    assert journal is not None  # noqa: S101  # it was committed
    aside = directory / folder.name.replace(f".{RESTORING}-", ASIDE)
    for name in journal["aside"]:
        if os.path.lexists(directory / name) and not os.path.lexists(aside / name):  # links too
            aside.mkdir(mode=0o700, exist_ok=True)
            (directory / name).rename(aside / name)
    for name in journal["names"]:
        if (folder / READY / name).exists():
            (folder / READY / name).rename(directory / name)
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    shutil.rmtree(folder)


def settle(directory: Path, is_used: Callable[[str], bool], *, restores_now: bool = False) -> None:
    """Finish or remove what killed backups, restores and imports left behind, and say so.

    Args:
        directory: the data directory.
        is_used: whether samples name files of an unpacked folder, by its name; a StoreError if the database
            cannot tell.
        restores_now: a restore asks, which may take up one that stopped while PostgreSQL loaded.

    Raises:
        StoreError: a restore is under way, or has to be taken up by `imil restore`.
    """
    for kind, place in ((BACKING_UP, ""), (RESTORING, ""), (UNPACKING, UNPACKED)):
        for folder in sorted((directory / place).glob(f".{kind}-*")):
            with _left_behind(folder, _PATIENCE if kind == RESTORING else 0) as left_behind:
                if left_behind:
                    _settle(directory, folder, kind, restores_now)
                elif kind == RESTORING and folder.exists():
                    raise StoreError(f"{directory} is being restored by another process. Wait for its end.")
    _settle_imports(directory, is_used)


def _settle_imports(directory: Path, is_used: Callable[[str], bool]) -> None:
    for path in sorted((directory / UNPACKED).glob(f"{_IMPORTING}*")):
        # Gone, or nobody can tell now: whoever needs the database will say so.
        with suppress(FileNotFoundError, StoreError), path.open("r+b") as lock:
            if _try(lock) and _is_there(path, lock) and _remove_if_unused(path, is_used):
                logger.warning(_IMPORT_INTERRUPTED)


def _remove_if_unused(path: Path, is_used: Callable[[str], bool]) -> bool:
    """Remove what an import unpacked, then its lock, which is held; whether anything had been unpacked."""
    unpacked = path.with_name(path.name.removeprefix(_IMPORTING))
    unused = path.stat().st_size > 0 and unpacked.exists() and not is_used(unpacked.name)
    if unused:
        shutil.rmtree(unpacked)
    path.unlink()
    return unused


def discard_restores_of_databases(directory: Path, but: Path) -> None:
    """Forget restores that stopped while PostgreSQL loaded, once another one has come as far."""
    for folder in directory.glob(f".{RESTORING}-*"):
        if folder != but:
            shutil.rmtree(folder)


def _settle(directory: Path, folder: Path, kind: str, restores_now: bool) -> None:
    journal = _journal(folder)
    if kind == BACKING_UP:
        if (folder / _PARTIAL).exists():
            Path(os.fsdecode((folder / _PARTIAL).read_bytes())).unlink(missing_ok=True)
        shutil.rmtree(folder)
        logger.warning("A backup was interrupted; what it left behind has been removed. Make another one.")
    elif kind == UNPACKING:
        shutil.rmtree(folder)
        logger.warning(_IMPORT_INTERRUPTED)
    elif journal is None:
        under_way = (folder / READY).exists()
        shutil.rmtree(folder)
        if under_way:
            logger.warning(
                "A restore to %s was interrupted before it changed anything; what it left behind has been "
                "removed. Start it again.",
                directory,
            )
    elif journal["step"] == "files":
        finish(directory, folder)
        logger.warning(
            "The restore of %s was interrupted; it has been finished. What was there before is in %s*.",
            journal["source"],
            directory / ASIDE,
        )
    elif not restores_now:
        raise StoreError(
            f"The restore of {journal['source']} was interrupted while the database was replaced. Run it "
            f"again: imil restore --replace {journal['source']}"
        )


def _journal(folder: Path) -> Journal | None:
    path = folder / _JOURNAL
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


@contextmanager
def _left_behind(folder: Path, patience: float) -> Iterator[bool]:
    """Whether nobody works in a folder; then its lock is held."""
    try:
        lock = (folder / _LOCK).open("a")
    except OSError:  # gone
        yield False
        return
    with lock:
        deadline = time.monotonic() + patience
        while not (taken := _try(lock)) and time.monotonic() < deadline:
            time.sleep(_SECONDS_BETWEEN_TRIES)
        yield taken and _is_there(folder / _LOCK, lock)


def _try(lock: IO[Any]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_there(path: Path, lock: IO[Any]) -> bool:
    """Whether the lock is still that of the file at this path."""
    try:
        return os.path.samestat(path.stat(), os.fstat(lock.fileno()))
    except OSError:
        return False
