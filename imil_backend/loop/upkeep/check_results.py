"""The result of a check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from imil_backend.errors import ImilError


class State(str, Enum):
    """The outcome of a check."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True)
class CheckResult:
    """One line of `imil doctor`: what was checked, its state, what was found and what to do."""

    subject: str
    state: State
    text: str


Outcome = tuple[State, str]


def look(subject: str, check: Callable[[], Outcome]) -> CheckResult:
    """Run a check; one of our own errors, which say what to do, is a failure."""
    try:
        state, text = check()
    except ImilError as error:
        state, text = State.FAILED, str(error)
    return CheckResult(subject, state, text)
