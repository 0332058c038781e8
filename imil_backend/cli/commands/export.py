"""`imil export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from imil_backend.cli.helpers.console import (
    DatasetOption,
    command,
    open_backend,
    progress_bar,
    say,
)


@command("export")
def export(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(help="Where to; made if need be.")],
    dataset: DatasetOption = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Write the samples that are not blacked out as well.")
    ] = False,
) -> None:
    """Write blacked-out images, their masks and a manifest.csv, for other tools."""
    from imil_backend.loop.base.backend import find_dataset
    from imil_backend.loop.views.export import export as export_samples

    with open_backend(context) as backend:
        with backend.store.begin() as session:
            found = find_dataset(session, dataset)
        with progress_bar("Writing") as progress:
            report = export_samples(backend, found, directory, everything=everything, progress=progress)
    for key, reason in report.set_aside:
        say(f"[yellow]Set aside[/] {key}: {escape(reason)}")
    say(f"{report.written} samples written; the manifest is {report.manifest}.")
