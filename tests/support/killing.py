"""Kills a process before one of its changes of files, of a database or of Label Studio."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Collection
from typing import Any

from sqlalchemy import Connection, Engine, event

DATABASE, LABEL_STUDIO = "a transaction ends", "Label Studio is asked"  # whoever asks it says so: `sys.audit`
WRITING = frozenset({"open", "os.mkdir", "shutil.rmtree", "sqlite3.connect"})
REPLACING = frozenset({"os.rename", "os.remove", "os.rmdir", DATABASE, LABEL_STUDIO})


def killed_at(number: int, work: Callable[[], object], changes: Collection[str] = REPLACING) -> bool:
    """Do something in a process that gets `kill -9` before one of its changes; whether it did.

    Args:
        number: how many changes it may make.
        work: what it does.
        changes: what counts: names of Python's audit events.
    """
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    left = number

    def count(kind: str, values: tuple[Any, ...]) -> None:
        nonlocal left
        if kind in changes and _is_change(kind, values):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        os.close(2)
        event.listen(Engine, "commit", _tell_of_transaction)
        event.listen(Engine, "before_cursor_execute", _tell_of_statement)
        sys.addaudithook(count)
        work()
    finally:
        os._exit(0)


def _is_change(kind: str, values: tuple[Any, ...]) -> bool:
    if kind == "open":
        return isinstance(values[2], int) and bool(values[2] & (os.O_WRONLY | os.O_RDWR))
    if kind == "os.remove":
        path, folder = values
        return folder != -1 or os.path.lexists(path)
    return True


def _tell_of_transaction(_: Connection) -> None:
    sys.audit(DATABASE)


def _tell_of_statement(_: Connection, __: object, statement: str, *___: object) -> None:
    if statement.startswith(("VACUUM", "PRAGMA wal_checkpoint")):  # they are no part of one
        sys.audit(DATABASE)
