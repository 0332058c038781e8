"""Fixtures that every room's tests may use."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: busy neighbours make it ten times slower

pytest_plugins = [
    "support.label_studio",
    "support.installation",
    "support.browser",
    "support.looking",
    "support.clouds",
    "support.faults",
    "support.logs",
    "support.order",
    "support.postgres",
    "support.xrays",
]


@pytest.fixture(autouse=True)
def umask_as_before() -> Iterator[None]:
    """The commands of `imil`, which tests run in their own process, set it."""
    before = os.umask(0)
    os.umask(before)
    yield
    os.umask(before)
