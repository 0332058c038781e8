"""The command line: `imil`."""

from imil_backend.cli import auditing, data, looking, processes, rounds, versions  # noqa: F401 - they add their commands
from imil_backend.cli.console import app

__all__ = ["app"]
