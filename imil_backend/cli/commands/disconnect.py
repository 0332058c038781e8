"""`imil disconnect`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from imil_backend.cli.helpers.console import DatasetOption, command, open_backend, say

if TYPE_CHECKING:
    from imil_backend.label_studio.api.calls import Call


DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show every call, and change nothing.")]


@command("disconnect")
def disconnect(context: typer.Context, dataset: DatasetOption = None, dry_run: DryRunOption = False) -> None:
    """Take back what `imil connect` changed in Label Studio, and nothing else. Answers and masks stay."""
    from imil_backend.errors import NotFoundError
    from imil_backend.loop.base.backend import find_dataset, project_of
    from imil_backend.loop.projects.disconnection import disconnect_project
    from imil_backend.loop.projects.mapping import check_instance

    with open_backend(context) as backend:
        with backend.store.begin() as session:
            found = project_of(session, find_dataset(session, dataset).id)
        if found is None:
            raise NotFoundError(
                "This dataset is connected with no Label Studio project. Connect one: `imil connect "
                "--project NUMBER`."
            )
        check_instance(backend, found)
        taken_back = disconnect_project(backend, found, rehearsal=dry_run)
    for entry in taken_back.left:
        say(f"[yellow]Left as it is:[/] {escape(entry)}")
    _show_calls(taken_back.calls, dry_run=dry_run)
    if not dry_run:
        say(f"Project {found.label_studio_id} is no longer connected.")


def _show_calls(calls: Iterable[Call], *, dry_run: bool) -> None:
    for call in calls:
        shown = call.shown()
        body = "" if shown["body"] is None else " " + json.dumps(shown["body"], ensure_ascii=False)
        say(f"{'would call' if dry_run else 'called'} {call.method} {call.path}{escape(body)}")
