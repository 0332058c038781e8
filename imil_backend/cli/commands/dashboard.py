"""`imil dashboard`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from imil_backend.cli.helpers.console import command, open_backend, progress_bars, say

_SHOWN = 5  # of the pictures that could not be made


@command("dashboard")
def dashboard(
    context: typer.Context,
    static: Annotated[
        Path,
        typer.Option(
            "--static", help="Output directory: created if missing; an earlier copy in it is replaced."
        ),
    ],
    dataset: Annotated[
        str | None, typer.Option("--dataset", "-d", help="Name of the only dataset in it (default: all).")
    ] = None,
) -> None:
    """Write the dashboard as files, which a browser shows without a server.

    It is the dashboard of `imil serve` as it is now, with images of patients. Samples have pages of their own
    if a round was about them.
    """
    from imil_backend.loop.base.backend import find_dataset
    from imil_backend.server.dashboard.copy_writer import write_copy

    with open_backend(context) as backend:
        only = None
        if dataset is not None:
            with backend.store.begin() as session:
                only = find_dataset(session, dataset).id
        with progress_bars() as progress:
            written = write_copy(backend, static, dataset_id=only, progress=progress)
    for picture, reason in written.left_out[:_SHOWN]:
        say(f"[yellow]Left out[/] {escape(picture)}: {escape(reason)}")
    if len(written.left_out) > _SHOWN:
        say(f"{len(written.left_out)} pictures are left out in all.")
    say(
        f"{written.pages:,} pages and {written.pictures:,} pictures written, with images of patients. Open "
        f"{escape(str(written.start))}."
    )
