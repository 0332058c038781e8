"""Logs of other packages."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture
def log_of_this_test() -> Iterator[None]:
    """DBOS gives its logger a handler once, for the stderr of that moment: that of another test."""
    handlers = logging.getLogger("dbos").handlers
    handlers.clear()
    yield
    handlers.clear()
