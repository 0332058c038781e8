"""How the tests run: the quick ones first, and in CI nothing is skipped."""

from __future__ import annotations

import os

import pytest

SLOW_MARKERS = ("training", "label_studio", "browser", "faults")  # the slowest last


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_slowness)


def _slowness(item: pytest.Item) -> int:
    names = {marker.name for marker in item.iter_markers()}
    return max((place for place, name in enumerate(SLOW_MARKERS, start=1) if name in names), default=0)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _skipped_in_ci(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(config: pytest.Config) -> None:
    if count := _skipped_in_ci(config):
        config.get_terminal_writer().line(f"CI=true: {count} skipped tests count as failed.", red=True)


def _skipped_in_ci(config: pytest.Config) -> int:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") != "true" or reporter is None:
        return 0
    return len(reporter.stats.get("skipped", []))
