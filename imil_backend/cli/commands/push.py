"""The command that opens a round: push."""

from __future__ import annotations

from dataclasses import asdict
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from imil_backend.cli.helpers.console import (
    DatasetOption,
    command,
    console,
    open_backend,
    progress_bar,
    say,
)

if TYPE_CHECKING:
    from imil_backend.loop.base.backend import Backend
    from imil_backend.store.tables import Dataset


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
    from imil_backend.loop.base.backend import find_dataset
    from imil_backend.loop.base.policy import changed_policy, check_takes_effect, policy_of
    from imil_backend.loop.base.states import OPEN
    from imil_backend.loop.projects.connection import connect
    from imil_backend.loop.rounds import lifecycle
    from imil_backend.loop.rounds.push import push_round
    from imil_backend.loop.versions.mispredictions import next_mispredictions
    from imil_backend.loop.versions.power import as_sentences, validation_power

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
            latest = lifecycle.latest_round(session, found.id)
            if latest is not None and latest.state == OPEN:
                check_takes_effect(latest, policy_of(found), policy)
                asked = []
            else:
                asked = next_mispredictions(session, found, policy)
            powers = validation_power(session, found, policy)
            if not dry_run:
                found.policy = asdict(policy)
                # Refuses before anything is made in Label Studio.
                lifecycle.round_to_push(session, found)
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
            round_ = lifecycle.open_round(session, found)
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
    from imil_backend.loop.base.backend import project_of
    from imil_backend.loop.projects.connection import takes_predictions

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
