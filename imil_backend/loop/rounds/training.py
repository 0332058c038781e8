"""The steps of a round's training, each of which may run twice; `running/workflows.py` makes them durable."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from imil_backend.errors import RoundError, StoreError
from imil_backend.learning.contract.hosts import Hosts
from imil_backend.learning.contract.launch import join_training, run_training
from imil_backend.learning.contract.training_job import (
    PREDICTIONS_FILE,
    Progress,
    Recipe,
    read_json,
    read_progress,
    read_training_job,
)
from imil_backend.learning.scoring.comparison import compare
from imil_backend.loop.answers.reconcile import reconcile
from imil_backend.loop.base.backend import Backend, project_of
from imil_backend.loop.base.locks import locked, wait_for_erasures
from imil_backend.loop.base.policy import policy_of, recipe_of, with_policy
from imil_backend.loop.base.states import CANCELLED, CLOSED, FAILED, PUSHING, TRAINING
from imil_backend.loop.queues.hosts import own_address
from imil_backend.loop.rounds.lifecycle import (
    change_state,
    check_not_cancelled,
    held_round,
    latest_round,
    workflow_id_of,
)
from imil_backend.loop.tracking.trackers import Run, tell_champion, telling
from imil_backend.loop.versions.champions import LOOP, champion_of, promote, required_champion
from imil_backend.loop.versions.shortcut_results import about, compares, read_shortcut_test
from imil_backend.loop.versions.training_jobs import directory_of, prepare_training_job, record_version
from imil_backend.store.tables import Dataset, Round, Version

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 1.0


def bring_in_line(backend: Backend, round_id: int) -> None:
    """Read the clinicians' current answers before training on them."""
    with backend.store.begin() as session:
        project = project_of(session, session.get_one(Round, round_id).dataset_id)
    if project is not None:
        reconcile(backend, project)


def prepare_round_training(backend: Backend, round_id: int) -> None:
    """Write the training job of a round."""
    wait_for_erasures(backend)
    with backend.store.begin() as session:
        round_ = held_round(session, round_id)
        check_not_cancelled(round_)
        prepare_training_job(backend, session, round_, champion_of(session, round_.dataset_id))


def recipe_under_way(backend: Backend, round_: Round) -> Recipe | None:
    """The recipe of a training that has been prepared, or None."""
    if round_.version_name is None:
        return None
    return read_training_job(directory_of(backend, round_.version_name)).recipe


def check_takes_effect(backend: Backend, session: Session, dataset: Dataset) -> None:
    """Check that the current training, if there is one, uses the dataset's recipe and policy.

    Raises:
        RoundError: it was begun with others, which can no longer be changed.
    """
    round_ = latest_round(session, dataset.id)
    under_way = recipe_under_way(backend, round_) if round_ and round_.state == TRAINING else None
    if round_ is None or under_way is None:
        return
    wanted = recipe_of(dataset) if round_.is_baseline else with_policy(under_way, policy_of(dataset))
    begun = asdict(under_way)
    late = [f"{name} {begun[name]}" for name, value in asdict(wanted).items() if begun[name] != value]
    if late:
        raise RoundError(
            f"Round {round_.number} is already being trained with {', '.join(late)}, which can no "
            "longer be changed. Omit the option to follow the training, or cancel it (`imil cancel`) "
            "and train again."
        )


def run_round_training(
    backend: Backend,
    round_id: int,
    on_progress: Callable[[Progress], None] | None = None,
    hosts: Hosts | None = None,
) -> dict[str, Any]:
    """Run a round's training process to its end, with those of other hosts; an interrupted one resumes."""
    with backend.store.begin() as session:
        round_ = session.get_one(Round, round_id)
    check_not_cancelled(round_)
    name = round_.version_name
    if name is None:
        raise RoundError(f"Round {round_id} has no training job: it was not prepared.")
    # Another worker may have been given the round up for dead: one waits, and finds the training done.
    directory = directory_of(backend, name)
    with locked(backend, "round", round_id), telling(backend.settings, _run(backend, round_)) as told:
        result = run_training(
            directory,
            processes=backend.settings.training_processes,
            hosts=hosts,
            on_progress=_each(on_progress, told.progress if told else None),
            should_stop=_Cancelled(backend, round_id),
        )
        if told is not None:
            told.end(result, directory)
        return result


def join_round_training(backend: Backend, round_id: int) -> int | None:
    """Do this host's part of a round's training that another worker runs; see `join_training`."""
    with backend.store.begin() as session:
        name = session.get_one(Round, round_id).version_name
    if name is None:
        return None
    return join_training(
        directory_of(backend, name), own_address(backend), processes=backend.settings.training_processes
    )


def _run(backend: Backend, round_: Round) -> Run:
    """A round's training as trackers know it."""
    with backend.store.begin() as session:
        dataset = session.get_one(Dataset, round_.dataset_id).name
    recipe = recipe_under_way(backend, round_)
    return Run(str(round_.version_name), dataset, asdict(recipe) if recipe else {})


def _each(*told: Callable[[Progress], None] | None) -> Callable[[Progress], None]:
    def tell(progress: Progress) -> None:
        for each in told:
            if each is not None:
                each(progress)

    return tell


class _Cancelled:
    """Tells whether a round has been cancelled, asking the database about once a second."""

    def __init__(self, backend: Backend, round_id: int) -> None:
        self._backend, self._round_id, self._asked = backend, round_id, 0.0

    def __call__(self) -> bool:
        if time.monotonic() - self._asked < SECONDS_BETWEEN_LOOKS:
            return False
        self._asked = time.monotonic()
        try:
            with self._backend.store.begin() as session:
                return session.get_one(Round, self._round_id).state == CANCELLED
        except StoreError as error:
            logger.warning("The training goes on: %s", error)
            return False


def conclude(backend: Backend, round_id: int, result: dict[str, Any]) -> dict[str, Any]:
    """Record the version, compare it with the champion, promote it or not: all in one transaction."""
    verdict = _concluded(backend, round_id, result)
    with backend.store.begin() as session:
        dataset = session.get_one(Dataset, session.get_one(Round, round_id).dataset_id)
        champion = required_champion(session, dataset)
    tell_champion(backend.settings, dataset.name, champion.name)
    return verdict


def _concluded(backend: Backend, round_id: int, result: dict[str, Any]) -> dict[str, Any]:
    with backend.store.begin() as session:
        round_ = held_round(session, round_id)
        if round_.verdict is not None:
            return round_.verdict
        check_not_cancelled(round_)
        champion = champion_of(session, round_.dataset_id)
        version = record_version(backend, session, round_, champion, result)
        verdict = _verdict(session, round_, champion, version)
        if verdict["verdict"] == "promote":
            promote(session, version, LOOP, verdict["reason"])
        round_.verdict = verdict
        change_state(round_, CLOSED)
        return verdict


def _verdict(session: Session, round_: Round, champion: Version | None, version: Version) -> dict[str, Any]:
    tested = read_shortcut_test(version)
    if champion is None:
        return {"verdict": "promote", "reason": "It is the first version.", "shortcut": about(tested)}
    dataset = session.get_one(Dataset, round_.dataset_id)
    predictions = [
        read_json(Path(each.directory) / PREDICTIONS_FILE)["validation"] for each in (champion, version)
    ]
    policy = policy_of(dataset)
    comparison = compare(
        *predictions,
        shortcut=tested if compares(tested, champion) else None,
        judge=policy.judge,
        margins=policy.margins,
        classes=dataset.classes,
    )
    return {
        "champion": champion.name,
        "candidate": version.name,
        **asdict(comparison),
        "shortcut": about(tested),
    }


def fail(backend: Backend, round_id: int, reason: str) -> None:
    """Record why a round's training failed; a person can retry it. A closed round stays closed."""
    with backend.store.begin() as session:
        round_ = held_round(session, round_id)
        if round_.state == CANCELLED:
            logger.info("The training of round %d was cancelled.", round_id)
            return
        logger.error("The training of round %d failed: %s", round_id, reason)
        if round_.state == TRAINING:
            change_state(round_, FAILED, reason)


def postpone(backend: Backend, round_id: int, workflow_id: str, reason: str) -> None:
    """Record why a workflow failed in Label Studio; the next reconciliation retries it."""
    with backend.store.begin() as session:
        round_ = held_round(session, round_id)
        if round_.state == CANCELLED:
            logger.info("Round %d was cancelled.", round_id)
            return
        logger.error("Round %d waits for Label Studio: %s", round_id, reason)
        if workflow_id_of(round_) == workflow_id and round_.state in {PUSHING, TRAINING}:
            round_.attempt += 1
            change_state(round_, round_.state, reason)


def training_progress(backend: Backend, round_: Round) -> dict[str, Any] | None:
    """Where a round's training is, or None if it has not begun."""
    if round_.version_name is None:
        return None
    progress = read_progress(directory_of(backend, round_.version_name))
    return asdict(progress) if progress else None
