"""Commands of a round: train, push, simulate, reconcile."""

from __future__ import annotations

from dataclasses import asdict
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


class Annotators(str, Enum):
    """Whose masks count when several people painted one task."""

    LATEST = "latest"
    UNION = "union"
    INTERSECTION = "intersection"
    MAJORITY = "majority"


class Fill(str, Enum):
    """What painted pixels become."""

    BLACK = "black"
    MEAN = "mean"
    NOISE = "noise"
    BLUR = "blur"


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
        round_ = _begin_baseline(backend, found) if is_baseline else _close_round(backend, found)
        run_and_follow(backend, round_.id)


def _begin_baseline(backend: Backend, dataset: Dataset) -> Round:
    from imil_backend.loop import rounds, training
    from imil_backend.loop.policy import recipe_of

    recipe = recipe_of(dataset)
    if recipe.pretrained:
        _fetch_default_weights(backend)
    with backend.store.begin() as session:
        round_ = rounds.begin_baseline(session, dataset)
    if round_.state == rounds.TRAINING and training.recipe_under_way(backend, round_) not in {None, recipe}:
        errors.print("The baseline that is being trained keeps the options that it was begun with.")
    return round_


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


@command("push")
def push(
    context: typer.Context,
    dataset: DatasetOption = None,
    project: Annotated[
        int | None, typer.Option(help="Label Studio project to use; without it one is made.")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Share of the training split to ask (0.04).")
    ] = None,
    close_share: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Share of answered tasks that closes a round (0.8)."),
    ] = None,
    close_count: Annotated[
        int | None, typer.Option(min=0, help="Number of answered tasks that closes a round too (0: none).")
    ] = None,
    close_quiet_seconds: Annotated[
        float | None,
        typer.Option(min=0.0, help="Wait this long after the last answer before closing a round (60)."),
    ] = None,
    close_after_hours: Annotated[
        float | None,
        typer.Option(min=0.0, help="Close a round after this time without a new answer (0: never)."),
    ] = None,
    readers: Annotated[
        int | None,
        typer.Option(min=1, help="Different people who answer each task, blind to each other (1)."),
    ] = None,
    annotators: Annotated[
        Annotators | None, typer.Option(help="Whose masks count when several painted one task (latest).")
    ] = None,
    fill: Annotated[Fill | None, typer.Option(help="What painted pixels become (black).")] = None,
    fill_budget: Annotated[
        bool | None, typer.Option(help="Fill the budget with the least certain if fewer are wrong.")
    ] = None,
    class_quota: Annotated[bool | None, typer.Option(help="Share the budget out among the classes.")] = None,
    repeat: Annotated[bool | None, typer.Option(help="Ask again for samples answered before.")] = None,
    promotion_margin: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Accuracy that a candidate may lose (0.02).")
    ] = None,
    recall_margin: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Recall of any class that a candidate may lose (0.1)."),
    ] = None,
    auc_margin: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="AUC that a candidate may lose (0.05).")
    ] = None,
    next_round: Annotated[
        bool | None, typer.Option(help="Push the next mispredictions when a round has closed (yes).")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be pushed, and do nothing.")
    ] = False,
) -> None:
    """Open a round: push the champion's mispredictions to Label Studio as brush tasks.

    The first time, this makes the project, registers the webhook and, if `imil serve` is running, the ML
    backend. Options are kept with the dataset. Pushing again creates nothing twice.
    """
    from imil_backend.loop import rounds
    from imil_backend.loop.backend import find_dataset
    from imil_backend.loop.connection import connect
    from imil_backend.loop.mispredictions import next_mispredictions
    from imil_backend.loop.policy import changed_policy
    from imil_backend.loop.power import as_sentences, validation_power
    from imil_backend.loop.push import push_round

    changes = {
        "budget": budget,
        "close_share": close_share,
        "close_count": close_count,
        "close_quiet_seconds": close_quiet_seconds,
        "close_after_hours": close_after_hours,
        "readers": readers,
        "annotators": annotators.value if annotators else None,
        "fill": fill.value if fill else None,
        "fill_budget": fill_budget,
        "class_quota": class_quota,
        "repeat": repeat,
        "promotion_margin": promotion_margin,
        "recall_margin": recall_margin,
        "auc_margin": auc_margin,
        "next_round": next_round,
    }
    with open_backend(context) as backend:
        with backend.store.begin() as session:
            found = find_dataset(session, dataset)
            policy = changed_policy(found, changes)
            asked = next_mispredictions(session, found, policy)
            powers = validation_power(session, found, policy)
            if not dry_run:
                found.policy = asdict(policy)
                # Refuses before anything is made in Label Studio.
                under_way = rounds.round_to_push(session, found)
                if under_way is not None and under_way.state == rounds.OPEN:
                    asked = []
        say(escape(as_sentences(powers)))
        if hidden_text := sum(not item.sample.shown_as_is for item in asked):
            console.print(
                f"[yellow]{hidden_text} images are pushed as PNG. Text burned into them is not removed:[/] "
                "see that it names no patient before others can log in."
            )
        if dry_run:
            _say_what_would_be_pushed(backend, found, project, len(asked), policy.readers)
            return
        connection = connect(backend, found, project)
        with backend.store.begin() as session:
            round_ = rounds.open_round(session, found)
        with progress_bar("Pushing") as progress:
            count = push_round(backend, round_.id, progress)
    number = connection.project.number
    say(f"Round {round_.number} is open: {count} tasks in project {number}.")
    say(f"{backend.settings.label_studio_url}/projects/{number}/data?labeling=1")
    if round_.readers > 1:
        say(
            f"Each task is for {round_.readers} readers. Let them work at this address, where a task comes "
            "without what others painted. Opened from the list, it shows the answers of all."
        )
    if connection.problem:
        say(
            f"[yellow]The ML backend was not registered:[/] {escape(connection.problem)} Start `imil serve` "
            "and push again; the webhook is there, and tasks can be answered meanwhile."
        )


def _say_what_would_be_pushed(
    backend: Backend, dataset: Dataset, project: int | None, count: int, readers: int
) -> None:
    from imil_backend.loop.backend import project_of
    from imil_backend.loop.connection import takes_predictions

    with backend.store.begin() as session:
        kept = project_of(session, dataset.id)
    where = f"project {kept.number}" if kept else f"project {project}" if project else "a new project"
    url = backend.settings.own_url
    registered = f"the webhook {url}/webhook"
    if takes_predictions(kept) if kept else project is None:
        registered += f" and the ML backend {url}"
    say(
        f"Would push {count} tasks to {where} on {backend.settings.label_studio_url}, and register there "
        f"{registered}."
    )
    if readers > 1:
        is_a_teams = kept.connected is not None if kept else project is not None
        setting = "the project's own setting stays" if is_a_teams else "maximum_annotations of the project"
        say(f"Each of these tasks would be for {readers} readers ({setting}).")


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
