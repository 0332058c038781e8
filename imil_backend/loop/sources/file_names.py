"""Names of files and folders, which may hold any bytes: told from those that can be kept, and printed."""

from __future__ import annotations

import os


def is_utf8(name: str) -> bool:
    """Whether a name can be stored and printed; Python keeps other bytes of a name as lone surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(name: str) -> str:
    r"""A name with what is not UTF-8 in it escaped, such as `caf\xe9.png`."""
    try:
        return os.fsencode(name).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # surrogates that no file name has
        return name.encode("utf-8", "backslashreplace").decode()
