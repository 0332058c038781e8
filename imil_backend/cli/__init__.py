"""The command line: `imil`."""

from imil_backend.cli import (  # noqa: F401 - they add their commands
    auditing,
    cancelling,
    connecting,
    data,
    doctor,
    importing,
    keeping,
    looking,
    moving,
    processes,
    pushing,
    rounds,
    versions,
)
from imil_backend.cli.console import app

__all__ = ["app"]
