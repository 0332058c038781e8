"""`imil simulate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from imil_backend.cli.helpers.console import (
    DatasetOption,
    command,
    console,
    open_backend,
    progress_bar,
)

if TYPE_CHECKING:
    pass


@command("simulate")
def simulate(context: typer.Context, dataset: DatasetOption = None) -> None:
    """Let a simulated clinician answer the open round's tasks with the data set's own masks.

    Annotates through Label Studio's API with real brush strokes. For demos and tests; say so when you show
    results. In a round for several readers it is one of them; with another user's token it is the next one.
    """
    from imil_backend.loop.base.backend import find_dataset
    from imil_backend.loop.rounds.simulation import answer_open_tasks

    with open_backend(context) as backend:
        with backend.store.begin() as session:
            found = find_dataset(session, dataset)
        with progress_bar("Painting (simulated clinician)") as progress:
            count = answer_open_tasks(backend, found, progress)
    console.print(f"The simulated clinician answered {count} tasks.")
