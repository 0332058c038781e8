"""`imil disconnect`."""

from __future__ import annotations

import typer
from rich.markup import escape

from imil_backend.cli.helpers.console import DatasetOption, command, open_backend, say
from imil_backend.cli.helpers.dry_run import DryRunOption, show_calls


@command("disconnect")
def disconnect(context: typer.Context, dataset: DatasetOption = None, dry_run: DryRunOption = False) -> None:
    """Undo what `imil connect` changed in Label Studio, and nothing else. Answers and masks stay."""
    from imil_backend.errors import NotFoundError
    from imil_backend.loop.base.backend import find_dataset, project_of
    from imil_backend.loop.projects.disconnection import disconnect_project
    from imil_backend.loop.projects.mapping import check_instance

    with open_backend(context) as backend:
        with backend.store.begin() as session:
            found = project_of(session, find_dataset(session, dataset).id)
        if found is None:
            raise NotFoundError(
                "This dataset is not connected with a Label Studio project. Connect one: `imil connect "
                "--project NUMBER`."
            )
        check_instance(backend, found)
        taken_back = disconnect_project(backend, found, rehearsal=dry_run)
    for entry in taken_back.left:
        say(f"[yellow]Unchanged:[/] {escape(entry)}")
    show_calls(taken_back.calls, dry_run=dry_run)
    if not dry_run:
        say(f"Project {found.label_studio_id} is no longer connected.")
