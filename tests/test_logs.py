from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from imil_backend.logs import OneLine

# A console of 80 columns, as where there is no terminal.
PROGRAM = """
import logging
from imil_backend.cli import app
app(["--verbose", "audit", "--help"], standalone_mode=False)
logging.getLogger("imil").warning("x [red]" * 50)
"""


def record(message: str, **values: object) -> str:
    made = logging.LogRecord("imil.server", logging.WARNING, "", 1, message, None, None)
    made.__dict__.update(values)
    return OneLine().format(made)


@pytest.mark.parametrize(
    ("control", "shown"),
    [
        ("\n", r"\n"),
        ("\r", r"\r"),
        ("\x1b", r"\x1b"),
        ("\x00", r"\x00"),
        ("\x9b", r"\x9b"),
        ("\u2028", r"\u2028"),
        ("\u202e", r"\u202e"),
        ("\ud800", r"\ud800"),
    ],
)
def test_control_characters_are_escaped(control: str, shown: str) -> None:
    assert record(f"before{control}after").endswith(f"WARNING imil.server: before{shown}after")


def test_what_nobody_would_read_is_cut() -> None:
    line = record("\0" * 2_000_000)
    assert line.endswith("characters)")
    assert len(line) < 100_000


def test_a_traceback_is_one_line() -> None:
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        line = record("It failed", exc_info=sys.exc_info())
    assert line.isprintable()
    assert r"ValueError: first\nsecond" in line


@pytest.mark.slow  # a process
def test_a_long_record_of_a_command_is_not_wrapped() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert any(line.endswith("WARNING imil: " + "x [red]" * 50) for line in done.stderr.splitlines())
