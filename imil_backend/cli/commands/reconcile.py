"""`imil reconcile`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from imil_backend.cli.helpers.console import (
    DatasetOption,
    command,
    console,
    open_backend,
    say,
)

if TYPE_CHECKING:
    pass


@command("reconcile")
def reconcile(
    context: typer.Context,
    dataset: DatasetOption = None,
    full: Annotated[
        bool, typer.Option("--full", help="Read every annotation again, not only changed ones.")
    ] = False,
) -> None:
    """Compare with Label Studio now and fix differences. The worker does this every few minutes."""
    from imil_backend.errors import NotFoundError
    from imil_backend.loop.answers.reconcile import reconcile as bring_in_line
    from imil_backend.loop.base.backend import find_dataset, project_of

    with open_backend(context) as backend:
        with backend.store.begin() as session:
            project = project_of(session, find_dataset(session, dataset).id)
        if project is None:
            raise NotFoundError("This dataset has no Label Studio project yet. Make one: `imil push`.")
        found = bring_in_line(backend, project, full=full)
    if found.gone:
        say(
            f"[yellow]Label Studio's project {project.label_studio_id} is gone.[/] Masks and the audit trail "
            "stay."
        )
    console.print(
        f"{found.seen} annotations in Label Studio: {found.synced} read, {found.deleted} deleted since, "
        f"{found.set_aside} set aside; {found.tasks_deleted} tasks are gone."
    )
    if found.webhook:
        console.print(f"The webhook was repaired: it was {found.webhook}.")
    if found.problem:
        say(f"[yellow]The webhook could not be checked:[/] {escape(found.problem)}")
