"""`imil status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from imil_backend.cli.helpers.console import (
    DatasetOption,
    JsonOption,
    command,
    open_backend,
    print_json,
)

if TYPE_CHECKING:
    pass


@command("status")
def status(
    context: typer.Context,
    dataset: DatasetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show samples, champion, round, answers, training progress, and what was set aside."""
    from imil_backend.cli.helpers.showing import show_status
    from imil_backend.loop.views.status import status as collect

    with open_backend(context) as backend:
        found = collect(backend, dataset)
    if as_json:
        print_json(found)
    else:
        show_status(found)
