"""How the tests run: the tier `unit`, the quick ones first, and in CI nothing is skipped."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from types import ModuleType

import pytest

SLOW_MARKERS = ("training", "label_studio", "browser", "faults")  # the slowest last
# A test with none of these marks, and without a database, is of the tier `unit` (scripts/test --unit).
BEYOND_UNIT = {*SLOW_MARKERS, "slow", "external", "npm", "xrays"}
DATABASE = "backend"  # the fixture of the loop's tests that opens one


# What the tier `unit` does without, although it may be installed.
ABSENT = {
    *("mlflow", "tensorboard"),
    *("azure", "boto3", "captum", "gcp_storage_emulator", "moto"),
    *("label_studio_sdk", "playwright", "time_machine", "torchmetrics"),
}


class Absent:
    """Lets nothing of ABSENT be imported."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(
                f"A test of the tier `unit` imports {name}: mark it external.", name=name
            )


def pytest_configure(config: pytest.Config) -> None:
    gc.set_threshold(100_000, 50, 50)  # most of what collection makes stays: a sixth of its time
    if config.option.markexpr == "unit":
        sys.meta_path.insert(0, Absent)  # type: ignore[arg-type]


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not _marks(item) & BEYOND_UNIT and DATABASE not in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.unit)
    items.sort(key=_slowness)


def _slowness(item: pytest.Item) -> int:
    marks = _marks(item)
    return max((place for place, name in enumerate(SLOW_MARKERS, start=1) if name in marks), default=0)


def _marks(item: pytest.Item) -> set[str]:
    return {marker.name for marker in item.iter_markers()}


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
