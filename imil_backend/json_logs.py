"""Log records as JSON, one a line, for programs that collect them (IMIL_LOG_FORMAT=json).

A record has `time`, `level`, `logger` and `event` (its message); `exception` where there is one; and of
FIELDS those that are known. What else a library may attach to a record is left out, so that a line holds no
more than the record's text does.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timezone

from imil_backend.logs import shortened

# From the context (`log_fields`), or given to one record as `extra`. `duration` is in seconds.
FIELDS = (
    "request",
    "method",
    "path",
    "status",
    "dataset",
    "round",
    "workflow",
    "version",
    "duration",
)

Field = str | int | float

_known: ContextVar[dict[str, Field]] = ContextVar("log_fields", default={})  # noqa: B039 - never changed


class JsonLines(logging.Formatter):
    """Formats a record as one line of ASCII, so that no text in it can forge a record."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        values: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": shortened(record.getMessage()),
        }
        given = {name: value for name in FIELDS if (value := getattr(record, name, None)) is not None}
        values.update(_known.get() | given)
        if record.exc_info:
            values["exception"] = shortened(self.formatException(record.exc_info))
        return json.dumps(values, default=str)


@contextmanager
def log_fields(**fields: Field | None) -> Iterator[None]:
    """Have the records of this block carry these fields; those that are None are not known."""
    token = _known.set(_known.get() | _without_none(fields))
    try:
        yield
    finally:
        _known.reset(token)


def add_log_fields(**fields: Field | None) -> None:
    """Have the further records of the `log_fields` block that calls this carry these fields, too."""
    _known.set(_known.get() | _without_none(fields))


def set_log_fields(**fields: Field | None) -> None:
    """Have the records of this thread carry these fields and no others, until the next call."""
    _known.set(_without_none(fields))


def _without_none(fields: dict[str, Field | None]) -> dict[str, Field]:
    return {name: value for name, value in fields.items() if value is not None}


def log_as_json() -> None:
    """Write all records of this process to standard error as JSON, ours from INFO on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.getLogger().handlers = [handler]
    logging.getLogger("imil_backend").setLevel(logging.INFO)
    # DBOS gives its logger a handler of its own where it has none.
    dbos = logging.getLogger("dbos")
    dbos.handlers, dbos.propagate = [handler], False
