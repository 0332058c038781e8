"""The command that gives a round up."""

from __future__ import annotations

from getpass import getuser

import typer

from imil_backend.cli.helpers.console import DatasetOption, command, open_backend, say


@command("cancel")
def cancel(context: typer.Context, dataset: DatasetOption = None) -> None:
    """Give up the round that is under way: its push, its tasks' wait for answers, or its training.

    Nothing that a clinician did is lost: the tasks stay in Label Studio, the answers stand, and they count
    in the next round, as do those that are still to come. The champion stays.
    """
    from imil_backend.loop.base.backend import find_dataset
    from imil_backend.loop.rounds.lifecycle import answered, cancel_round

    with open_backend(context) as backend, backend.store.begin() as session:
        round_ = cancel_round(session, find_dataset(session, dataset), getuser())
        count = answered(session, round_).begun
    say(f"Round {round_.number} is cancelled. Its {count} answers are kept and count in the next round.")
