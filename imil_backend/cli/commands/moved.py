"""The command for a Label Studio that has got another address."""

from __future__ import annotations

from typing import Annotated

import typer

from imil_backend.cli.helpers.console import command, open_backend, say


@command("moved")
def moved(
    context: typer.Context,
    former: Annotated[str, typer.Argument(metavar="FORMER_URL", help="Label Studio's address until now.")],
) -> None:
    """Label Studio has another address: go on there with the projects that it had at the former one.

    LABEL_STUDIO_URL is the address now. That it is the same Label Studio is told by the tasks that were
    pushed to it; nothing is changed in it. Start `imil serve` and `imil worker` again, with the new address.
    """
    from imil_backend.loop.projects.relocated import follow_label_studio

    with open_backend(context) as backend:
        projects = follow_label_studio(backend, former)
    for project in projects:
        say(f"Project {project.label_studio_id} is at {backend.settings.label_studio_url} from now on.")
    if not projects:
        say(f"Images of data sets are fetched from {backend.settings.label_studio_url} from now on.")
