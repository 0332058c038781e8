"""`imil rollback`."""

from __future__ import annotations

from getpass import getuser

import typer

from imil_backend.cli.helpers.console import (
    DatasetOption,
    command,
    open_backend,
    say,
)


@command("rollback")
def rollback(context: typer.Context, dataset: DatasetOption = None) -> None:
    """Make the previous champion the champion again."""
    from imil_backend.loop.base.backend import find_dataset
    from imil_backend.loop.tracking.trackers import tell_champion
    from imil_backend.loop.versions.champions import roll_back

    with open_backend(context) as backend:
        with backend.store.begin() as session:
            found = find_dataset(session, dataset)
            version = roll_back(session, found, getuser())
        tell_champion(backend.settings, found.name, version.name)
    say(f"{version.name} is the champion again.")
