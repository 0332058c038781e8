"""What the tests of faults measure, as a table at the end: what came in, what is kept, lost, doubled."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

_ROWS = pytest.StashKey[list["Outcome"]]()


@dataclass(frozen=True)
class Outcome:
    """One fault: how often it was done, and what was found when all had settled."""

    fault: str
    times: int
    events: int  # submitted, changed and deleted in Label Studio
    masks: int  # of standing answers, in the store
    lost: int  # annotations that Label Studio has and the store has not
    doubled: int  # annotations that the store has twice, and versions of a round beyond one


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--times", type=int, default=50, help="kill -9 at so many random times (scripts/test --faults)"
    )
    parser.addoption("--seed", type=int, default=0, help="of the random times")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ROWS] = []


def note(config: pytest.Config, outcome: Outcome) -> None:
    """Add a row to the table."""
    config.stash[_ROWS].append(outcome)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash[_ROWS]
    if not rows:
        return
    terminalreporter.section("faults, as measured")
    line = "{:<58} {:>5} {:>6} {:>5} {:>4} {:>7}".format
    terminalreporter.line(line("fault", "times", "events", "masks", "lost", "doubled"))
    for row in rows:
        terminalreporter.line(line(row.fault, row.times, row.events, row.masks, row.lost, row.doubled))
