"""`imil phantoms`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imil_backend.cli.helpers.console import (
    command,
    progress_bar,
    say,
)


@command("phantoms")
def phantoms(
    directory: Annotated[Path, typer.Argument(help="Output directory; created if missing.")],
    count: Annotated[int, typer.Option(min=40, help="Number of phantoms.")] = 400,
    size: Annotated[int, typer.Option(min=64, help="Width and height in pixels.")] = 256,
    seed: Annotated[int, typer.Option(help="Random seed; the same seed draws the same phantoms.")] = 0,
) -> None:
    """Draw phantoms: chest-like pictures with a known lesion, a planted shortcut, and known masks.

    For trials without data. Results on phantoms say nothing about patients.
    """
    from imil_backend.images.phantoms import write_phantoms

    with progress_bar("Drawing phantoms") as progress:
        index = write_phantoms(directory, count, size=size, seed=seed, progress=progress)
    say(f"{count} phantoms in {index}. Import them: imil import {index.parent}")
