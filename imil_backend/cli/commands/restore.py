"""`imil restore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imil_backend.cli.helpers.console import command, progress_bar, say, settings_of


@command("restore")
def restore(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(help="A file written by `imil backup`.", exists=True, dir_okay=False)
    ],
    identity: Annotated[
        Path | None,
        typer.Option(help="File with the age private key that opens it.", exists=True, dir_okay=False),
    ] = None,
    passphrase_file: Annotated[
        Path | None,
        typer.Option(help="File with the passphrase that opens it.", exists=True, dir_okay=False),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Move existing data aside instead of refusing.")
    ] = False,
) -> None:
    """Restore a backup into the data directory, which may differ from the original one.

    Everything is verified before anything is replaced. What clinicians have done since the backup is read
    from Label Studio when the worker starts.
    """
    from imil_backend.loop.upkeep.backup.encryption import Keys
    from imil_backend.loop.upkeep.backup.restoring import restore as bring_back

    with progress_bar("Restoring") as progress:
        keys = Keys(identity=identity, passphrase=passphrase_file)
        directory = bring_back(settings_of(context), file, replace=replace, keys=keys, progress=progress)
    say(f"Restored to {directory}. Start `imil serve` and `imil worker`.")
