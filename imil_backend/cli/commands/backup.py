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
) -> None:
    """Back up databases, masks, versions, weights and secrets into one file, while everything runs.

    The pixel cache, which is rebuilt, and images outside the data directory are not included. The
    file holds patients' masks and the webhook's secret: keep it as safe as the original.
    """
    from imil_backend.loop.upkeep.backup.making import back_up

    with open_backend(context) as backend, progress_bar("Backing up") as progress:
        made = back_up(backend, file.absolute(), progress)
    say(f"{file}: {made.files} files, {made.bytes / MEBIBYTE:.0f} MiB.")
    if made.images_outside:
        say(
            f"{made.images_outside} original images are outside {settings_of(context).data_dir} and "
            "are not included: keep them where they are, or back them up as well."
        )
