"""`imil push`."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

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
from imil_backend.cli.helpers.declared_options import with_options
from imil_backend.loop.base.policy import ANSWERS, CLOSING, PROMOTION, QUESTIONS, Policy

if TYPE_CHECKING:
    from imil_backend.loop.base.backend import Backend
    from imil_backend.loop.projects.connection import Connection
    from imil_backend.store.tables import Dataset


@command("push")
@with_options("changes", Policy, (QUESTIONS, ANSWERS, CLOSING, PROMOTION))
def push(
    context: typer.Context,
    changes: dict[str, Any],
    dataset: DatasetOption = None,
    project: Annotated[
        int | None, typer.Option(help="ID of the Label Studio project (default: a new one is created).")
    ] = None,
    review: Annotated[
        bool,
        typer.Option("--review", help="Open no round, but put answers that are in dispute to a reviewer."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be pushed, and change nothing.")
    ] = False,
) -> None:
    """Open a round: push the champion's mispredictions to Label Studio as brush tasks.

    The first time, this creates the project and registers the webhook and, if `imil serve` is running, the
    ML backend. Options are kept with the dataset. Idempotent.
    """
    if review:
        _push_reviews(context, changes, dataset, dry_run=dry_run)
        return
    from imil_backend.loop.asking.gold import choose_gold
    from imil_backend.loop.base.backend import find_dataset
    from imil_backend.loop.base.policy import changed_policy, check_takes_effect, policy_of
    from imil_backend.loop.base.states import OPEN
    from imil_backend.loop.projects.connection import connect
    from imil_backend.loop.rounds import lifecycle
    from imil_backend.loop.versions.mispredictions import next_mispredictions
    from imil_backend.loop.versions.validation_power import as_sentences, validation_power

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
            number = latest.number + 1 if latest is not None else 1
            gold = choose_gold(session, found, policy, number, [each.sample.key for each in asked])
            powers = validation_power(session, found, policy)
            if not dry_run:
                found.policy = asdict(policy)
                # Refuses before anything is made in Label Studio.
                lifecycle.round_to_push(session, found)
        say(escape(as_sentences(powers)))
        if hidden_text := sum(not item.sample.shown_as_is for item in asked):
            console.print(
                f"[yellow]{hidden_text} images are pushed as PNG. Text burned into them is not "
                "removed:[/] make sure that it names no patient before others can log in."
            )
        if dry_run:
            _say_what_would_be_pushed(backend, found, project, len(asked), len(gold), policy.readers)
            return
        _push_round(backend, found, connect(backend, found, project))


def _push_round(backend: Backend, dataset: Dataset, connection: Connection) -> None:
    """Open a round and push its tasks; say so."""
    from imil_backend.loop.asking.gold import pushed_gold
    from imil_backend.loop.projects.links import project_link
    from imil_backend.loop.proposals.renewal import enqueue_due_renewals
    from imil_backend.loop.queues.workflow_queues import WorkflowQueues
    from imil_backend.loop.rounds import lifecycle
    from imil_backend.loop.rounds.push import push_round

    with backend.store.begin() as session:
        round_ = lifecycle.open_round(session, dataset)
    with progress_bar("Pushing") as progress:
        count = push_round(backend, round_.id, progress)
    with backend.store.begin() as session:
        gold_count = pushed_gold(session, round_)
    number = connection.project.label_studio_id
    say(f"Round {round_.number} is open: {count}{_and_gold(gold_count)} tasks in project {number}.")
    say(f"{project_link(backend, connection.project)}?labeling=1")
    if round_.readers > 1:
        say(
            f"Each task is for {round_.readers} readers. Give them this URL, where nobody sees the "
            "others' answers. A task opened from the list shows everybody's answers."
        )
    if connection.problem:
        say(
            f"[yellow]The ML backend was not registered:[/] {escape(connection.problem)} Start `imil "
            "serve` and push again. The webhook is registered, so tasks can be answered meanwhile."
        )
    with closing(WorkflowQueues(backend)) as queues:
        enqueue_due_renewals(backend, queues, dataset.id)


def _and_gold(count: int) -> str:
    return f" and {count} gold" if count else ""


def _push_reviews(
    context: typer.Context, changes: dict[str, Any], dataset: str | None, *, dry_run: bool
) -> None:
    """Put answers in dispute to a reviewer, or say which would be."""
    from imil_backend.loop.answers.sample_states import standing_answers
    from imil_backend.loop.asking.disputes import disputes_of
    from imil_backend.loop.asking.reviews import push_reviews, reviewed_project
    from imil_backend.loop.base.backend import find_dataset
    from imil_backend.loop.base.policy import changed_policy, check_takes_effect, policy_of
    from imil_backend.loop.base.states import OPEN
    from imil_backend.loop.projects.links import project_link
    from imil_backend.loop.rounds.lifecycle import latest_round

    with open_backend(context) as backend:
        with backend.store.begin() as session:
            found = find_dataset(session, dataset)
            policy = changed_policy(found, changes)
            latest = latest_round(session, found.id)
            if latest is not None and latest.state == OPEN:
                check_takes_effect(latest, policy_of(found), policy)
            there = reviewed_project(session, found)
            number = there.label_studio_id
            disputes = disputes_of(session, found, policy.review_below, standing_answers(session, found.id))
            if not dry_run:
                found.policy = asdict(policy)
        if dry_run:
            for each in disputes:
                say(f"{escape(each.task.sample.name)}, task {each.task.label_studio_id}: {each.why}")
            say(f"Would put {len(disputes)} samples to a reviewer, in project {number}.")
            return
        with progress_bar("Pushing") as progress:
            count = push_reviews(backend, found, progress)
    say(f"{count} samples were put to a reviewer, in the tab that project {number} has for it.")
    say(project_link(backend, there))


def _say_what_would_be_pushed(
    backend: Backend, dataset: Dataset, project: int | None, count: int, gold: int, readers: int
) -> None:
    from imil_backend.loop.base.backend import project_of
    from imil_backend.loop.projects.connection import takes_predictions

    with backend.store.begin() as session:
        kept = project_of(session, dataset.id)
    where = (
        f"project {kept.label_studio_id}" if kept else f"project {project}" if project else "a new project"
    )
    url = backend.settings.own_url
    registered = f"the webhook {url}/webhook"
    if takes_predictions(kept) if kept else project is None:
        registered += f" and the ML backend {url}"
    say(
        f"Would push {count}{_and_gold(gold)} tasks to {where} on {backend.settings.label_studio_url}, and "
        f"register there {registered}."
    )
    if readers > 1:
        is_a_teams = kept.connected is not None if kept else project is not None
        setting = "the project's own setting stays" if is_a_teams else "maximum_annotations of the project"
        say(f"Each of these tasks would be for {readers} readers ({setting}).")
