"""The command line: `imil`."""

from imil_backend.cli.commands import (  # noqa: F401 - they add their commands
    audit,
    backup,
    cancel,
    connect,
    disconnect,
    doctor,
    export,
    import_,
    mispredictions,
    models,
    moved,
    phantoms,
    promote,
    push,
    reconcile,
    report,
    restore,
    rollback,
    serve,
    simulate,
    status,
    train,
    weights,
    worker,
)
from imil_backend.cli.helpers.console import app

__all__ = ["app"]
