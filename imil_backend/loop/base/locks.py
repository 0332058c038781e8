"""Named locks. A process holds one until it releases it or ends, however it ends.

With SQLite everything runs on one host, and a lock is that of a file in the data directory. A PostgreSQL
database may serve several hosts: there it is an advisory lock of a database session.
"""

from __future__ import annotations

import fcntl
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from imil_backend.errors import StoreError
from imil_backend.loop.base.backend import Backend

CLEANUP = "cleanup"  # the kind of the lock under which files of the data directory are removed, or backed up
ERASURE = "erasure"  # an erasure is under way: trainings and pushes wait before they begin

_FOLDER = "locks"  # in the data directory
_SECONDS_BETWEEN_TRIES = 0.05
_PROBE_SECONDS = 1.0  # whoever asks whether a lock is held has its file's lock for a moment
# PostgreSQL lets go of a host that has vanished after 25 seconds, and not after two hours.
_KEEPALIVES = (
    "SET tcp_keepalives_idle = 10",
    "SET tcp_keepalives_interval = 5",
    "SET tcp_keepalives_count = 3",
)

# The advisory locks of a kind in this database.
_HELD = (
    "FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = :kind "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


class LockTakenError(Exception):
    """Another process holds the lock."""


@dataclass(frozen=True)
class Lock:
    """A lock that is held."""

    _connection: Connection | None = None

    def is_held(self) -> bool:
        """Whether it is still held: PostgreSQL releases it when the connection breaks."""
        if self._connection is None:
            return True
        try:
            self._connection.execute(text("SELECT 1"))
        except SQLAlchemyError:
            return False
        return True


@contextmanager
def locked(backend: Backend, kind: str, name: object = "", *, wait: bool = True) -> Iterator[Lock]:
    """Hold the lock of this kind and name.

    Args:
        backend: whose lock it is.
        kind: what is locked: "worker", "round", "push", "migration", "cleanup", "erasure".
        name: which of them.
        wait: wait until it is free.

    Raises:
        LockTakenError: another process holds it, and `wait` is false.
        StoreError: the database or the data directory cannot be used.
    """
    patience = float("inf") if wait else _PROBE_SECONDS
    if _on_one_host(backend):
        with _open(_file(backend, kind, name), "a") as file:
            _take(lambda: _try_file(file, fcntl.LOCK_EX), patience)
            yield Lock()
    else:
        with _session(backend) as connection:
            for setting in _KEEPALIVES:
                connection.execute(text(setting))
            key = {"kind": _number(kind), "name": _number(str(name))}
            _take(lambda: _ask(connection, "SELECT pg_try_advisory_lock(:kind, :name)", **key), patience)
            try:
                yield Lock(connection)
            finally:
                # Not to the pool: the session's locks end with it, also where it can answer no more.
                connection.invalidate()


def wait_for_erasures(backend: Backend) -> None:
    """Wait until no erasure is under way. One that begins later sees what the caller holds, and refuses."""
    with locked(backend, ERASURE):
        pass


def which_are_held(backend: Backend, kind: str, names: Iterable[str]) -> set[str]:
    """Those of the names under which some process holds a lock of this kind."""
    if _on_one_host(backend):
        return {name for name in names if _is_held(_file(backend, kind, name))}
    with _session(backend) as connection:
        taken = set(connection.scalars(text(f"SELECT objid {_HELD}"), {"kind": _number(kind)}))
    return {name for name in names if _number(name) in taken}


def any_is_held(backend: Backend, kind: str) -> bool:
    """Whether some process holds a lock of this kind."""
    if not _on_one_host(backend):
        with _session(backend) as connection:
            return _ask(connection, f"SELECT EXISTS (SELECT {_HELD})", kind=_number(kind))
    return any(_is_held(path) for path in (backend.directory / _FOLDER).glob(f"{kind}-*"))


def _is_held(path: Path) -> bool:
    with path.open(encoding="ascii") as file:
        return not _try_file(file, fcntl.LOCK_SH)


def _on_one_host(backend: Backend) -> bool:
    return backend.store.engine.dialect.name == "sqlite"


def _take(attempt: Callable[[], bool], patience: float) -> None:
    deadline = time.monotonic() + patience
    while not attempt():
        if time.monotonic() >= deadline:
            raise LockTakenError
        time.sleep(_SECONDS_BETWEEN_TRIES)


def _file(backend: Backend, kind: str, name: object) -> Path:
    return backend.path(_FOLDER, f"{kind}-{name}" if name != "" else kind)


def _open(path: Path, mode: str) -> IO[str]:
    try:
        return path.open(mode, encoding="ascii")
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {error.strerror}. Set IMIL_DATA_DIR to another place."
        ) from error


def _try_file(file: IO[str], how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _session(backend: Backend) -> Iterator[Connection]:
    try:
        connection = backend.store.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    except SQLAlchemyError as error:
        raise StoreError(
            f"The database cannot be reached ({type(error).__name__}). Is it running?"
        ) from error
    with connection:
        yield connection


def _ask(connection: Connection, question: str, **values: int) -> bool:
    return bool(connection.scalar(text(question), values))


def _number(name: str) -> int:
    """What PostgreSQL knows a name by: 31 bits of it."""
    return zlib.crc32(name.encode()) & 0x7FFFFFFF
