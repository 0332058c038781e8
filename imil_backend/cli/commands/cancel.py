"""`imil cancel`."""

from __future__ import annotations

from getpass import getuser

import typer

from imil_backend.cli.helpers.console import DatasetOption, command, open_backend, say


@command("cancel")
def cancel(context: typer.Context, dataset: DatasetOption = None) -> None:
    """Cancel the current round, whether it is being pushed, open or being trained.

    No clinician's work is lost: the tasks stay in Label Studio, and all answers, later ones too, count in
    the next round. The champion stays.
    """
    from imil_backend.loop.base.backend import find_dataset
    from imil_backend.loop.rounds.lifecycle import answered, cancel_round

    with open_backend(context) as backend, backend.store.begin() as session:
        round_ = cancel_round(session, find_dataset(session, dataset), getuser())
        count = answered(session, round_).begun
    say(f"Round {round_.number} is cancelled. Its {count} answers are kept and count in the next round.")
