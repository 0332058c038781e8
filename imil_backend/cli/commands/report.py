"""`imil report`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from imil_backend.cli.helpers.console import (
    DatasetOption,
    command,
    open_backend,
    say,
)

if TYPE_CHECKING:
    pass


@command("report")
def report(
    context: typer.Context,
    dataset: DatasetOption = None,
    number: Annotated[
        int | None, typer.Option("--round", help="Number of the round (default: the latest closed one).")
    ] = None,
) -> None:
    """Write a closed round's report again: metrics (including the test split), answers, pictures.

    The worker writes it when a round closes.
    """
    from imil_backend.errors import NotFoundError
    from imil_backend.loop.base.backend import find_dataset
    from imil_backend.loop.evaluation.kept import evaluate_round
    from imil_backend.loop.rounds.lifecycle import find_closed_round
    from imil_backend.loop.rounds.report import write_report

    with open_backend(context) as backend:
        with backend.store.begin() as session:
            round_ = find_closed_round(session, find_dataset(session, dataset).id, number)
        if round_ is None:
            raise NotFoundError("There is no such closed round; see `imil status`.")
        written = write_report(backend, round_.id)
        evaluate_round(backend, round_.id)
    for path in (written.text, *written.pictures):
        say(str(path))
