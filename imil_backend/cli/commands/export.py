"""`imil export`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from imil_backend.cli.helpers.console import (
    DatasetOption,
    command,
    open_backend,
    progress_bar,
    say,
)
from imil_backend.errors import SettingsError

if TYPE_CHECKING:
    from imil_backend.loop.base.backend import Backend


class ExportFormat(str, Enum):
    """What is written."""

    IMAGES = "images"
    ONNX = "onnx"
    TORCHVISION = "torchvision"


@command("export")
def export(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(help="Output directory; created if missing.")],
    dataset: DatasetOption = None,
    form: Annotated[
        ExportFormat,
        typer.Option(
            "--format",
            help="images: blacked-out images. For a version: onnx (checked against torch) or "
            "torchvision (a state dict for resnet50).",
        ),
    ] = ExportFormat.IMAGES,
    everything: Annotated[
        bool, typer.Option("--all", help="images: include those that are not blacked out.")
    ] = False,
    version: Annotated[
        str | None, typer.Option(help="onnx, torchvision: the version (default: the champion).")
    ] = None,
) -> None:
    """Export blacked-out images with masks and a manifest.csv, or a version, for other tools."""
    if form is ExportFormat.IMAGES and version is not None:
        raise SettingsError(
            "--version does not apply to images. Omit it, or export the version: --format onnx or "
            "--format torchvision."
        )
    if form is not ExportFormat.IMAGES and everything:
        raise SettingsError(f"--all does not apply to {form.value}. Omit it.")
    with open_backend(context) as backend:
        if form is ExportFormat.IMAGES:
            _export_images(backend, dataset, directory, everything)
        else:
            _export_version(backend, dataset, version, directory, form)


def _export_images(backend: Backend, dataset: str | None, directory: Path, everything: bool) -> None:
    from imil_backend.loop.base.backend import find_dataset
    from imil_backend.loop.views.image_export import export as export_samples

    with backend.store.begin() as session:
        found = find_dataset(session, dataset)
    with progress_bar("Writing") as progress:
        report = export_samples(backend, found, directory, everything=everything, progress=progress)
    for key, reason in report.set_aside:
        say(f"[yellow]Set aside[/] {key}: {escape(reason)}")
    say(f"{report.written} samples written, listed in {report.manifest}.")


def _export_version(
    backend: Backend, dataset: str | None, name: str | None, directory: Path, form: ExportFormat
) -> None:
    from imil_backend.loop.versions.removed_weights import check_weights_kept
    from imil_backend.loop.versions.version_export import export_version, version_or_champion

    with backend.store.begin() as session:
        version = version_or_champion(session, dataset, name)
        check_weights_kept(session, version)
    path = export_version(version, directory, "onnx" if form is ExportFormat.ONNX else "torchvision")
    say(f"Version {version.name} written to {escape(str(path))}; docs/versions.md loads it.")
