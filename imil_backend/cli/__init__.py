"""The command line: `imil`. Each file in `commands` adds its command."""

from importlib import import_module
from pkgutil import iter_modules

from imil_backend.cli import commands
from imil_backend.cli.helpers.console import app

for _module in iter_modules(commands.__path__, f"{commands.__name__}."):
    import_module(_module.name)

__all__ = ["app"]
