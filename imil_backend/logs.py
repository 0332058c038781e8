"""The form of log records."""

from __future__ import annotations

import logging

MOST_CHARACTERS = 16_384  # of a record; tracebacks are shorter
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class OneLine(logging.Formatter):
    """A record is one line, its traceback too.

    Control characters are escaped: what comes from others, such as a path, could else forge a record or steer
    the terminal that shows it.
    """

    def __init__(self) -> None:
        super().__init__(FORMAT)

    def format(self, record: logging.LogRecord) -> str:
        """The record in one line."""
        return without_controls(shortened(super().format(record)))


def shortened(text: str) -> str:
    """The text, cut where what others sent has made it longer than anybody reads."""
    if len(text) <= MOST_CHARACTERS:
        return text
    return f"{text[:MOST_CHARACTERS]}... ({len(text):,} characters)"


def without_controls(text: str) -> str:
    """The text with every character that does not show, but blanks, as its escape."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
