"""`imil train`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from imil_backend.cli.helpers.console import (
    DatasetOption,
    command,
    errors,
    open_backend,
)
from imil_backend.cli.helpers.declared_options import with_options
from imil_backend.learning.contract.training_job import BASELINE, Recipe
from imil_backend.loop.base.policy import TRAINING, Policy


@command("train")
@with_options("policy", Policy, (TRAINING,))
@with_options("recipe", Recipe, (BASELINE,))
def train(
    context: typer.Context,
    recipe: dict[str, Any],
    policy: dict[str, Any],
    dataset: DatasetOption = None,
    fresh: Annotated[
        bool,
        typer.Option("--fresh", help="Train a new baseline, on new samples too and with the options below."),
    ] = False,
) -> None:
    """Train the baseline; later: close the open round and train on its answers.

    Without a worker (`imil worker`) the training runs in this command. If interrupted, run it again to
    resume from the last epoch.
    """
    from imil_backend.cli.helpers.following import run_and_follow
    from imil_backend.loop.rounds.beginning import begin_training

    with open_backend(context) as backend:
        round_ = begin_training(backend, dataset, recipe, policy, fresh=fresh, progress=errors.print)
        run_and_follow(backend, round_.id)
