"""`imil train`."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from imil_backend.cli.helpers.console import (
    DatasetOption,
    command,
    errors,
    open_backend,
)

if TYPE_CHECKING:
    from imil_backend.loop.base.backend import Backend
    from imil_backend.store.tables import Dataset, Round


class Mining(str, Enum):
    """Which model is asked for mispredictions."""

    INTERMEDIATE = "intermediate"
    OUT_OF_FOLD = "out-of-fold"
    FINAL = "final"


class Balance(str, Enum):
    """What is done about classes of different size."""

    NONE = "none"
    LOSS = "loss"
    SAMPLING = "sampling"


class Trainable(str, Enum):
    """Which layers a round fine-tunes."""

    ALL = "all"
    LAYER4 = "layer4"
    CLASSIFIER = "classifier"


@command("train")
def train(
    context: typer.Context,
    dataset: DatasetOption = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Train a new baseline, with new samples and the options below.")
    ] = False,
    epochs: Annotated[int | None, typer.Option(min=2, help="Baseline: epochs.")] = None,
    image_size: Annotated[int | None, typer.Option(min=32, help="Baseline: pixels a side.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=2, help="Baseline: images a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0.0, help="Baseline: highest.")] = None,
    balance: Annotated[Balance | None, typer.Option(help="Baseline: for classes of different size.")] = None,
    mining: Annotated[
        Mining | None,
        typer.Option(help="Baseline: which model is asked for mispredictions; the README says more."),
    ] = None,
    mining_epoch: Annotated[int | None, typer.Option(min=1, help="Baseline: after which epoch.")] = None,
    seed: Annotated[int | None, typer.Option(help="Baseline: of everything drawn by chance.")] = None,
    from_scratch: Annotated[
        bool | None,
        typer.Option("--from-scratch/--from-imagenet", help="Baseline: without ImageNet weights, or with."),
    ] = None,
    deterministic: Annotated[
        bool | None,
        typer.Option("--deterministic/--fast", help="Baseline: equal bits on one machine; slower."),
    ] = None,
    progressive: Annotated[
        bool | None,
        typer.Option("--progressive/--full-size", help="Baseline: begin with small images; quicker."),
    ] = None,
    trainable: Annotated[
        Trainable | None,
        typer.Option(help="Rounds, from now on: fine-tune all layers, or the last ones only; quicker."),
    ] = None,
) -> None:
    """Train the baseline; later: close the open round and train on its answers.

    Without a worker (`imil worker`) the training runs in this command. Interrupted, it goes on from the
    last epoch when the command is given again.
    """
    from imil_backend.cli.helpers.following import run_and_follow
    from imil_backend.errors import SettingsError
    from imil_backend.loop.base.backend import find_dataset
    from imil_backend.loop.base.policy import change_policy, change_recipe
    from imil_backend.loop.rounds.training import check_takes_effect
    from imil_backend.loop.versions.champions import champion_of

    recipe = {
        "epochs": epochs,
        "image_size": image_size,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "balance": balance.value if balance else None,
        "mining": mining.value if mining else None,
        "mining_epoch": mining_epoch,
        "seed": seed,
        "pretrained": None if from_scratch is None else not from_scratch,
        "deterministic": deterministic,
        "progressive": progressive,
    }
    with open_backend(context) as backend:
        with backend.store.begin() as session:
            found = find_dataset(session, dataset)
            is_baseline = fresh or champion_of(session, found.id) is None
            if is_baseline:
                change_recipe(found, recipe)
            elif any(value is not None for value in recipe.values()):
                raise SettingsError(
                    "A round goes on with its baseline's recipe, so that candidate and champion can be "
                    "compared. Train a new baseline with --fresh to change it."
                )
            change_policy(found, {"trainable": trainable.value if trainable else None})
            if trainable is not None or any(value is not None for value in recipe.values()):
                check_takes_effect(backend, session, found)
        round_ = _begin_baseline(backend, found) if is_baseline else _close_round(backend, found)
        run_and_follow(backend, round_.id)


def _begin_baseline(backend: Backend, dataset: Dataset) -> Round:
    from imil_backend.loop.base.policy import recipe_of
    from imil_backend.loop.rounds import lifecycle

    if recipe_of(dataset).pretrained:
        _fetch_default_weights(backend)
    with backend.store.begin() as session:
        return lifecycle.begin_baseline(session, dataset)


def _close_round(backend: Backend, dataset: Dataset) -> Round:
    from imil_backend.errors import RoundError
    from imil_backend.loop.base.states import CANCELLED, CLOSED, OPEN
    from imil_backend.loop.rounds import lifecycle, training
    from imil_backend.store.tables import Round

    with backend.store.begin() as session:
        latest = lifecycle.latest_round(session, dataset.id)
    if latest is None or latest.state in {CLOSED, CANCELLED}:
        raise RoundError("No round is open. Push the next mispredictions: `imil push`.")
    if latest.state == OPEN:
        training.bring_in_line(backend, latest.id)  # a worker may not have been there to see the answers
    with backend.store.begin() as session:
        return lifecycle.close_round(session, session.get_one(Round, latest.id))


def _fetch_default_weights(backend: Backend) -> None:
    """Torchvision's weights, once, if none were selected."""
    from imil_backend.learning.networks.weights import fetch_weights
    from imil_backend.loop.versions.weights import select_weights, selected_weights, weights_directory

    if selected_weights(backend) is None:
        select_weights(backend, fetch_weights("torchvision", weights_directory(backend), errors.print))
