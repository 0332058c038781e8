"""Commands of a round: train, simulate, reconcile; `pushing.py` has the one that opens it."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from imil_backend.cli.console import (
    DatasetOption,
    command,
    console,
    errors,
    open_backend,
    progress_bar,
    say,
)

if TYPE_CHECKING:
    from imil_backend.loop.backend import Backend
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
    from imil_backend.cli.following import run_and_follow
    from imil_backend.errors import SettingsError
    from imil_backend.loop.backend import find_dataset
    from imil_backend.loop.champion import champion_of
    from imil_backend.loop.policy import change_policy, change_recipe
    from imil_backend.loop.training import check_takes_effect

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
    from imil_backend.loop import rounds
    from imil_backend.loop.policy import recipe_of

    if recipe_of(dataset).pretrained:
        _fetch_default_weights(backend)
    with backend.store.begin() as session:
        return rounds.begin_baseline(session, dataset)


def _close_round(backend: Backend, dataset: Dataset) -> Round:
    from imil_backend.errors import RoundError
    from imil_backend.loop import rounds, training
    from imil_backend.store.tables import Round

    with backend.store.begin() as session:
        latest = rounds.latest_round(session, dataset.id)
    if latest is None or latest.state in {rounds.CLOSED, rounds.CANCELLED}:
        raise RoundError("No round is open. Push the next mispredictions: `imil push`.")
    if latest.state == rounds.OPEN:
        training.bring_in_line(backend, latest.id)  # a worker may not have been there to see the answers
    with backend.store.begin() as session:
        return rounds.close_round(session, session.get_one(Round, latest.id))


def _fetch_default_weights(backend: Backend) -> None:
    """Torchvision's weights, once, if none were selected."""
    from imil_backend.learning.weights import fetch_weights
    from imil_backend.loop.pretrained import select_weights, selected_weights, weights_directory

    if selected_weights(backend) is None:
        select_weights(backend, fetch_weights("torchvision", weights_directory(backend), errors.print))


@command("simulate")
def simulate(context: typer.Context, dataset: DatasetOption = None) -> None:
    """A simulated clinician answers the open round's tasks with the data set's own masks.

    Through Label Studio's API, as real brush annotations. For demos and tests; say so when you show it.
    In a round for several readers it is one of them; with another user's token it is the next.
    """
    from imil_backend.loop.backend import find_dataset
    from imil_backend.loop.simulation import answer_open_tasks

    with open_backend(context) as backend:
        with backend.store.begin() as session:
            found = find_dataset(session, dataset)
        with progress_bar("Painting (simulated clinician)") as progress:
            count = answer_open_tasks(backend, found, progress)
    console.print(f"The simulated clinician answered {count} tasks.")


@command("reconcile")
def reconcile(
    context: typer.Context,
    dataset: DatasetOption = None,
    full: Annotated[
        bool, typer.Option("--full", help="Read every annotation, not only changed ones.")
    ] = False,
) -> None:
    """Bring the store in line with Label Studio now. The worker does it by itself every few minutes."""
    from imil_backend.errors import NotFoundError
    from imil_backend.loop.backend import find_dataset, project_of
    from imil_backend.loop.reconcile import reconcile as bring_in_line

    with open_backend(context) as backend:
        with backend.store.begin() as session:
            project = project_of(session, find_dataset(session, dataset).id)
        if project is None:
            raise NotFoundError("This dataset has no Label Studio project yet. Make one: `imil push`.")
        found = bring_in_line(backend, project, full=full)
    if found.gone:
        say(f"[yellow]Label Studio's project {project.number} is gone.[/] Masks and the audit trail stay.")
    console.print(
        f"{found.seen} annotations in Label Studio: {found.synced} read, {found.deleted} deleted since, "
        f"{found.set_aside} set aside; {found.tasks_deleted} tasks are gone."
    )
    if found.webhook:
        console.print(f"The webhook was not in order: it was {found.webhook}.")
    if found.problem:
        say(f"[yellow]The webhook could not be looked after:[/] {escape(found.problem)}")
