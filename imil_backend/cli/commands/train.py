"""`imil train`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from imil_backend.cli.helpers.console import (
    DatasetOption,
    command,
    errors,
    open_backend,
)
from imil_backend.cli.helpers.options import with_options
from imil_backend.learning.contract.job import BASELINE, Recipe
from imil_backend.loop.base.policy import TRAINING, Policy

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from imil_backend.loop.base.backend import Backend
    from imil_backend.store.tables import Dataset, Round


@command("train")
@with_options("policy", Policy, (TRAINING,))
@with_options("recipe", Recipe, (BASELINE,))
def train(
    context: typer.Context,
    recipe: dict[str, Any],
    policy: dict[str, Any],
    dataset: DatasetOption = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Train a new baseline, with new samples and the options below.")
    ] = False,
) -> None:
    """Train the baseline; later: close the open round and train on its answers.

    Without a worker (`imil worker`) the training runs in this command. Interrupted, it goes on from the
    last epoch when the command is given again.
    """
    from imil_backend.cli.helpers.following import run_and_follow
    from imil_backend.loop.base.backend import find_dataset
    from imil_backend.loop.versions.champions import champion_of

    with open_backend(context) as backend:
        with backend.store.begin() as session:
            found = find_dataset(session, dataset)
            is_baseline = fresh or champion_of(session, found.id) is None
            _keep_options(backend, session, found, recipe, policy, is_baseline=is_baseline)
        round_ = _begin_baseline(backend, found) if is_baseline else _close_round(backend, found)
        run_and_follow(backend, round_.id)


def _keep_options(
    backend: Backend,
    session: Session,
    dataset: Dataset,
    recipe: dict[str, Any],
    policy: dict[str, Any],
    *,
    is_baseline: bool,
) -> None:
    """Keep the options that were given with the dataset.

    Raises:
        SettingsError: a recipe was given for a round.
        RoundError: the training under way was begun with others.
    """
    from imil_backend.errors import SettingsError
    from imil_backend.loop.base.policy import change_policy, change_recipe
    from imil_backend.loop.rounds.training import check_takes_effect

    if is_baseline:
        change_recipe(dataset, recipe)
    elif recipe:
        raise SettingsError(
            "A round goes on with its baseline's recipe, so that candidate and champion can be compared. "
            "Train a new baseline with --fresh to change it."
        )
    change_policy(dataset, policy)
    if recipe or policy:
        check_takes_effect(backend, session, dataset)


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
