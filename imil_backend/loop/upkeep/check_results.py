"""What a look at one thing found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from imil_backend.errors import ImilError


class State(str, Enum):
    """How something stands."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True)
class CheckResult:
    """One line of `imil doctor`: what was looked at, how it stands, what was found and what to do."""

    subject: str
    state: State
    text: str


Outcome = tuple[State, str]


def look(subject: str, check: Callable[[], Outcome]) -> CheckResult:
    """Run a check; our own errors say what to do, and are its failure."""
    try:
        state, text = check()
    except ImilError as error:
        state, text = State.FAILED, str(error)
    return CheckResult(subject, state, text)
