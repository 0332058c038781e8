"""`imil moved`."""

from __future__ import annotations

from typing import Annotated

import typer

from imil_backend.cli.helpers.console import command, open_backend, say


@command("moved")
def moved(
    context: typer.Context,
    former: Annotated[str, typer.Argument(metavar="FORMER_URL", help="Label Studio's former URL.")],
) -> None:
    """Tell IMIL that Label Studio has moved to a new URL, and continue with its projects there.

    Set LABEL_STUDIO_URL to the new URL first. The tasks that were pushed must be found there; nothing in
    Label Studio is changed. Restart `imil serve` and `imil worker` with the new URL afterwards.
    """
    from imil_backend.loop.projects.relocated import follow_label_studio

    with open_backend(context) as backend:
        projects = follow_label_studio(backend, former)
    for project in projects:
        say(f"Project {project.label_studio_id} is at {backend.settings.label_studio_url} from now on.")
    if not projects:
        say(f"Images of data sets are fetched from {backend.settings.label_studio_url} from now on.")
