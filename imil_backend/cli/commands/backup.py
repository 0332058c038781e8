"""`imil backup`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imil_backend.cli.helpers.console import command, open_backend, progress_bar, say, settings_of

MEBIBYTE = 2**20


@command("backup")
def backup(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The backup to write, such as imil-2026-11-25.tar.")],
    recipient: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Encrypt it for a public key of age (age1...)."),
    ] = None,
    passphrase_file: Annotated[
        Path | None,
        typer.Option(help="Encrypt it with the passphrase in the first line of this file.", dir_okay=False),
    ] = None,
) -> None:
    """Back up databases, masks, versions, weights and secrets into one file, while everything runs.

    The pixel cache, which is rebuilt, and images outside the data directory are not included. The
    file holds patients' masks and images, the key that their IDs were hashed with, and the webhook's secret:
    encrypt it, or keep it as safe as the original.
    """
    from imil_backend.loop.upkeep.backup.encryption import Keys
    from imil_backend.loop.upkeep.backup.making import back_up

    with open_backend(context) as backend, progress_bar("Backing up") as progress:
        keys = Keys(recipient=recipient, passphrase=passphrase_file)
        made = back_up(backend, file.absolute(), progress, keys=keys)
    say(f"{file}: {made.files} files, {made.bytes / MEBIBYTE:.0f} MiB.")
    if not (recipient or passphrase_file):
        say("It is not encrypted, and holds the key to patients' IDs: keep it as safe as the original.")
    if made.without_weights:
        say(
            f"{made.without_weights} versions have no weights any more (`imil gc` removed them): their "
            "metrics and reports are included."
        )
    if made.images_outside:
        say(
            f"{made.images_outside} original images are outside {settings_of(context).data_dir} and "
            "are not included: keep them where they are, or back them up as well."
        )
