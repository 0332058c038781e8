"""`imil plant`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from imil_backend.cli.helpers.console import command, console, open_backend, progress_bars, say, table
from imil_backend.images.markers import MARKERS

if TYPE_CHECKING:
    from imil_backend.loop.comparing.planting import Plan

_SHARE = {"min": 0.0, "max": 1.0}


@command("plant")
def plant(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(help="A folder, a CSV, or a zip of either.")],
    directory: Annotated[Path, typer.Argument(help="Output directory; created if missing, else empty.")],
    marker: Annotated[
        list[str], typer.Option(help=f"Marker to plant: {', '.join(MARKERS)}. Repeat it for several.")
    ],
    agreement: Annotated[
        float, typer.Option(help="Share of each class whose marker tells it, in training.", **_SHARE)
    ] = 0.95,
    validation_agreement: Annotated[
        float | None, typer.Option(help="The same in validation (default: as in training).", **_SHARE)
    ] = None,
    test_agreement: Annotated[
        float | None,
        typer.Option(help="The same in test (default: chance, so that the marker says nothing).", **_SHARE),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed; the same seed plants the same.")] = 0,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Take at most this many images, chosen at random.")
    ] = None,
    image: Annotated[str | None, typer.Option(help="CSV: column or template of the image's path.")] = None,
    label: Annotated[str | None, typer.Option(help="CSV: column of the label.")] = None,
    split: Annotated[str | None, typer.Option(help="CSV: column of the split.")] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(help="CSV: column of the group (patient); repeat it to combine several."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be planted; write none.")
    ] = False,
) -> None:
    """Copy a data set and plant a marker in every image: a known shortcut, as a positive control.

    In training the marker mostly agrees with the label; in test it says nothing. The copy has the masks that
    a clinician would paint. Splits and groups are those of `imil import`; originals are not changed. What is
    measured on planted images says how a shortcut is corrected, and nothing about patients.
    """
    from imil_backend.loop.base.unfinished import UNPACKED, UNPACKING, working_folder
    from imil_backend.loop.comparing.planting import Planting, plan_planting, write_planted
    from imil_backend.loop.sources.read_source import Columns

    planting = Planting(tuple(dict.fromkeys(marker)), agreement, validation_agreement, test_agreement, seed)
    columns = Columns(image=image, label=label, split=split, group=tuple(group or ()))
    with (
        open_backend(context) as backend,
        working_folder(backend.path(UNPACKED, "x").parent, UNPACKING) as folder,
        progress_bars() as move,
    ):
        plan = plan_planting(
            backend,
            source,
            planting,
            unpack_to=folder,
            columns=columns,
            limit=limit,
            progress=lambda done, total: move("Checking images", done, total),
        )
        if not dry_run:
            write_planted(backend, plan, directory, lambda done, total: move("Planting", done, total))
    _show(plan)
    if dry_run:
        say(f"Dry run: nothing was written to {escape(str(directory))}.")
        return
    say(
        f"{len(plan.images):,} PLANTED images in {escape(str(directory))}. Import them: "
        f"imil import {escape(str(directory))} --mask-means irrelevant"
    )


def _show(plan: Plan) -> None:
    """How often the planted markers agree, by split, and what is left out."""
    planting = plan.planting
    numbers = ("images", "agree", "contradict", "agreement")
    shown = table(f"PLANTED: {' + '.join(planting.markers)}", "split", *numbers, numbers=numbers)
    for split, (images, against) in plan.counts().items():
        share = f"{1 - against / images:.1%}" if images else "-"
        shown.add_row(split, f"{images:,}", f"{images - against:,}", f"{against:,}", share)
    console.print(shown)
    for reason, count in Counter(plan.left_out.values()).most_common(3):
        say(f"[yellow]Left out[/] {count:,}: {escape(reason)}")
