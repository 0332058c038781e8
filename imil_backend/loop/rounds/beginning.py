"""Begins the training that is due: a baseline, or the open round."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from imil_backend.errors import RoundError, SettingsError
from imil_backend.loop.base.backend import Backend, find_dataset
from imil_backend.loop.base.policy import change_policy, change_recipe, recipe_of
from imil_backend.loop.base.states import CANCELLED, CLOSED, OPEN
from imil_backend.loop.rounds import lifecycle, training
from imil_backend.loop.versions.champions import champion_of
from imil_backend.loop.versions.starting_weights import fetch_default_weights
from imil_backend.store.tables import Dataset, Round


def begin_training(
    backend: Backend,
    dataset: str | None,
    recipe: dict[str, Any],
    policy: dict[str, Any],
    *,
    fresh: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Round:
    """Begin the baseline, or later close the open round, so that it is trained.

    Args:
        backend: the store, and Label Studio for a round.
        dataset: its name (default: the only one).
        recipe: what of a baseline's recipe is to change, by field.
        policy: what of the dataset's policy is to change, from now on.
        fresh: a new baseline, even if there is one.
        progress: called with what is fetched, a line each.

    Raises:
        RoundError: no round is open, or the training has begun with other options.
        SettingsError: a recipe was given for a round, or it cannot be trained.
        WeightsError: ImageNet weights are wanted, and cannot be fetched.
    """
    with backend.store.begin() as session:
        found = find_dataset(session, dataset)
        is_baseline = fresh or champion_of(session, found.id) is None
        if is_baseline:
            change_recipe(found, recipe)
        elif recipe:
            raise SettingsError(
                "A round uses its baseline's recipe, so that candidate and champion can be compared. "
                "To change it, train a new baseline with --fresh."
            )
        change_policy(found, policy)
        if recipe or policy:
            training.check_takes_effect(backend, session, found)
    return _begin_baseline(backend, found, progress) if is_baseline else _close_round(backend, found)


def _begin_baseline(backend: Backend, dataset: Dataset, progress: Callable[[str], None] | None) -> Round:
    recipe = recipe_of(dataset)
    if recipe.pretrained:
        fetch_default_weights(backend, progress, recipe.backbone)
    with backend.store.begin() as session:
        return lifecycle.begin_baseline(session, dataset)


def _close_round(backend: Backend, dataset: Dataset) -> Round:
    with backend.store.begin() as session:
        latest = lifecycle.latest_round(session, dataset.id)
    if latest is None or latest.state in {CLOSED, CANCELLED}:
        raise RoundError("No round is open. Push the next mispredictions: `imil push`.")
    if latest.state == OPEN:
        training.bring_in_line(backend, latest.id)  # a worker may not have been there to see the answers
    with backend.store.begin() as session:
        return lifecycle.close_round(session, session.get_one(Round, latest.id))
