"""Rounds: their states, when one opens and closes, and the workflow that a state calls for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, case, func, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from imil_backend.errors import RoundError
from imil_backend.loop.base import audit
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.policy import Policy, policy_of
from imil_backend.loop.base.states import (
    ANSWERS,
    CANCELLED,
    CLOSED,
    FAILED,
    OPEN,
    PUSHING,
    TRAINING,
    UNDER_WAY,
    Purpose,
)
from imil_backend.loop.queues.engine import FINISHED, LABELLING_QUEUE, SYNC_QUEUE, TRAINING_QUEUE
from imil_backend.loop.queues.names import CLOSE_WORKFLOW, PUSH_WORKFLOW, TRAIN_WORKFLOW
from imil_backend.loop.queues.workflow_queues import WorkflowQueues
from imil_backend.loop.versions.champions import champion_of
from imil_backend.loop.versions.mispredictions import next_mispredictions
from imil_backend.store.tables import Annotation, Dataset, Round, Task, now


@dataclass(frozen=True)
class Answered:
    """How far a round's tasks are answered."""

    tasks: int
    answered: int  # by as many different people as are to read each
    begun: int  # by one of them at least


def latest_round(session: Session, dataset_id: int) -> Round | None:
    """The round with the highest number."""
    return session.scalar(
        select(Round).where(Round.dataset_id == dataset_id).order_by(Round.number.desc()).limit(1)
    )


def find_closed_round(session: Session, dataset_id: int, number: int | None = None) -> Round | None:
    """The closed round of this number, or the latest one."""
    closed = select(Round).where(Round.dataset_id == dataset_id, Round.state == CLOSED)
    if number is not None:
        closed = closed.where(Round.number == number)
    return session.scalar(closed.order_by(Round.number.desc()).limit(1))


def answered(session: Session, round_: Round) -> Answered:
    """Count a round's tasks that Label Studio still has, and those that its readers have answered.

    A reader who has answered a task twice is one. Reviews and gold tasks are not counted.
    """
    return _counted(session, Round.id == round_.id)[round_.id]


def answered_in_all(session: Session, dataset_id: int) -> Mapping[int, Answered]:
    """Likewise for all rounds of a dataset, by their ids."""
    return _counted(session, Round.dataset_id == dataset_id)


def _counted(session: Session, which: ColumnElement[bool]) -> Mapping[int, Answered]:
    asked = (~Task.deleted, Task.purpose == Purpose.ASKED.value)
    tasks = (
        select(Round.id, func.count(Task.id))
        .outerjoin(Task, and_(Task.round_id == Round.id, *asked))
        .where(which)
        .group_by(Round.id)
    )
    people = func.count(func.distinct(func.coalesce(Annotation.annotator, 0)))
    by_task = (
        select(Round.id, people.label("people"), Round.readers)
        .join(Task, Task.round_id == Round.id)
        .join(Annotation, Annotation.task_id == Task.id)
        .where(which, *asked, ~Annotation.deleted, Annotation.answer.in_(ANSWERS))
        .group_by(Round.id, Round.readers, Task.id)
        .subquery()
    )
    whole = func.sum(case((by_task.c.people >= by_task.c.readers, 1), else_=0))
    counts = select(by_task.c.id, whole, func.count()).group_by(by_task.c.id)
    begun = {number: (answered, count) for number, answered, count in session.execute(counts)}
    return {number: Answered(count, *begun.get(number, (0, 0))) for number, count in session.execute(tasks)}


def begin_baseline(session: Session, dataset: Dataset) -> Round:
    """Start a new baseline, or continue one that is not finished.

    Raises:
        RoundError: another round has not ended.
    """
    latest = latest_round(session, dataset.id)
    if latest is not None:
        latest = held_round(session, latest.id)
    if latest is not None and latest.is_baseline and latest.state in {TRAINING, FAILED}:
        return latest if latest.state == TRAINING else retry(latest)
    if latest is not None and latest.state == PUSHING and latest.error:
        change_state(latest, FAILED)  # it is given up
    if latest is not None and latest.state in {PUSHING, OPEN, TRAINING}:
        first = "push" if latest.state == PUSHING else "train"
        raise RoundError(
            f"Round {latest.number} is {latest.state}; finish it first (`imil {first}`), then train "
            "the new baseline (`imil train --fresh`)."
        )
    round_ = Round(dataset_id=dataset.id, number=latest.number + 1 if latest else 0, state=TRAINING)
    session.add(round_)
    session.flush()
    return round_


def round_to_push(session: Session, dataset: Dataset) -> Round | None:
    """The round whose push goes on, or that is open; None if the next one can be opened.

    Raises:
        RoundError: there is no champion yet, nothing to ask, or a training under way.
    """
    latest = latest_round(session, dataset.id)
    if latest is not None and latest.state in {PUSHING, OPEN}:
        return latest
    if latest is not None and latest.state in {TRAINING, FAILED}:
        raise RoundError(
            f"Round {latest.number} is {latest.state}: `imil train` follows it, or retries it if it failed."
        )
    if not next_mispredictions(session, dataset):
        raise RoundError(
            f"Dataset {dataset.name!r} has no mispredictions left to ask about. --fill-budget adds "
            "the least certain samples, --repeat those that were answered before."
        )
    return None


def open_round(session: Session, dataset: Dataset) -> Round:
    """The round to push: the one whose push was interrupted, or the next one.

    Raises:
        RoundError: see `round_to_push`.
    """
    readers = policy_of(dataset).readers
    if under_way := round_to_push(session, dataset):
        under_way.readers = readers
        return under_way
    latest, champion = latest_round(session, dataset.id), champion_of(session, dataset.id)
    round_ = Round(
        dataset_id=dataset.id,
        number=latest.number + 1 if latest else 1,
        state=PUSHING,
        mined_version_id=champion.id if champion else None,
        readers=readers,
    )
    session.add(round_)
    session.flush()
    return round_


def close_round(session: Session, round_: Round) -> Round:
    """Close an open round for answers, so that it is trained.

    Raises:
        RoundError: it is not open, or nothing in it was answered.
    """
    round_ = held_round(session, round_.id)
    if round_.state == TRAINING:
        return round_
    if round_.state == FAILED:
        return retry(round_)
    if round_.state != OPEN:
        raise RoundError(f"Round {round_.number} is {round_.state}; only an open round can be closed.")
    if answered(session, round_).begun == 0:
        raise RoundError(
            f"Nothing in round {round_.number} has been answered yet. Answer its tasks in Label Studio first."
        )
    change_state(round_, TRAINING)
    return round_


def retry(round_: Round) -> Round:
    """Train a failed round again, from its last checkpoint."""
    round_.attempt += 1
    change_state(round_, TRAINING)
    return round_


def cancel_round(session: Session, dataset: Dataset, who: str) -> Round:
    """Cancel the current round. What is being trained or pushed for it stops.

    Its tasks stay in Label Studio and its answers count in the next round, later ones too. A version that is
    not finished is never made.

    Raises:
        RoundError: there is none.
    """
    latest = latest_round(session, dataset.id)
    round_ = held_round(session, latest.id) if latest else None
    if round_ is None or round_.state not in UNDER_WAY:
        raise RoundError(f"Dataset {dataset.name!r} has no current round to cancel.")
    audit.note(
        session,
        dataset.id,
        audit.CANCELLED,
        round_id=round_.id,
        version_id=round_.mined_version_id,
        by=who,
        was=round_.state,
    )
    change_state(round_, CANCELLED)
    return round_


def held_round(session: Session, round_id: int) -> Round:
    """A round as it is now; nobody else changes it until the transaction ends."""
    session.execute(update(Round).where(Round.id == round_id).values(attempt=Round.attempt))
    return session.get_one(Round, round_id, populate_existing=True)


def check_not_cancelled(round_: Round) -> None:
    """Check that a round was not cancelled.

    Raises:
        RoundError: it was.
    """
    if round_.state == CANCELLED:
        raise RoundError(f"Round {round_.number} was cancelled; its answers count in the next round.")


def is_due(session: Session, round_: Round) -> bool:
    """Whether an open round is to be closed: enough answers and a quiet time, or long silence."""
    progress = answered(session, round_)
    if progress.begun == 0:
        return False
    if progress.answered == progress.tasks:
        return True
    policy = policy_of(session.get_one(Dataset, round_.dataset_id))
    if is_enough(progress, policy):
        # By the clock that the answers were taken in by; one that was set back must not keep a round open.
        heard = _latest(session, round_, Annotation.synced_at)
        quiet = timedelta(seconds=policy.close_quiet_seconds)
        return heard is None or not timedelta(0) <= now() - heard < quiet
    silent = closes_in_silence(session, round_, policy)
    return silent is not None and now() > silent


def closes_in_silence(session: Session, round_: Round, policy: Policy) -> datetime | None:
    """When an open round closes if nobody answers any more; None: it stays open, or nobody has begun."""
    latest = _latest(session, round_, Annotation.label_studio_updated_at)
    if latest is None or not policy.close_after_hours:
        return None
    return latest + timedelta(hours=policy.close_after_hours)


def _latest(session: Session, round_: Round, column: InstrumentedAttribute[datetime]) -> datetime | None:
    """The latest time in a column of what was submitted to a round's tasks."""
    found = select(func.max(column)).join(Annotation.task)
    return session.scalar(found.where(Task.round_id == round_.id, ~Annotation.deleted))


def is_enough(progress: Answered, policy: Policy) -> bool:
    """Whether a round has the answers that close it, by share or by count."""
    return progress.answered >= enough(progress.tasks, policy)


def enough(tasks: int, policy: Policy) -> int:
    """How many answered tasks close a round of so many."""
    share = math.ceil(round(policy.close_share * tasks, 6))
    return max(1, min(share, policy.close_count) if policy.close_count else share)


def workflow_id_of(round_: Round) -> str:
    """The id of the workflow that a round's state calls for; an attempt has one workflow and no second."""
    kind = "push" if round_.state == PUSHING else "train"
    return f"{kind}-round-{round_.id}-{round_.attempt}"


def ensure_workflow(backend: Backend, queues: WorkflowQueues, round_: Round) -> str | None:
    """Enqueue the workflow that a round's state requires. Idempotent.

    A workflow that has ended without moving its round on (say, the database could not be written) is followed
    by another.
    """
    if round_.state not in {PUSHING, TRAINING}:
        return None
    if queues.status(workflow_id_of(round_)) in FINISHED:
        ended = workflow_id_of(round_)
        with backend.store.begin() as session:
            round_ = session.get_one(Round, round_.id)
            if workflow_id_of(round_) == ended:
                round_.attempt += 1
    if round_.state == PUSHING:
        return queues.enqueue(PUSH_WORKFLOW, LABELLING_QUEUE, round_.id, workflow_id=workflow_id_of(round_))
    if round_.state == TRAINING:
        return queues.enqueue(TRAIN_WORKFLOW, TRAINING_QUEUE, round_.id, workflow_id=workflow_id_of(round_))
    return None


def close_due_rounds(backend: Backend, queues: WorkflowQueues, dataset_id: int | None = None) -> None:
    """Close the rounds that are due, and enqueue what is to be pushed or trained."""
    with backend.store.begin() as session:
        under_way = select(Round).where(Round.state.in_((PUSHING, OPEN, TRAINING)))
        if dataset_id is not None:
            under_way = under_way.where(Round.dataset_id == dataset_id)
        rounds = list(session.scalars(under_way))
        for round_ in rounds:
            if round_.state == OPEN and is_due(session, round_):
                if held_round(session, round_.id).state == OPEN:
                    change_state(round_, TRAINING)
            elif round_.state == OPEN:
                _look_again(session, queues, round_)
    for round_ in rounds:
        ensure_workflow(backend, queues, round_)


def _look_again(session: Session, queues: WorkflowQueues, round_: Round) -> None:
    """Check a round again later that has enough answers, but whose clinician is still working."""
    policy, progress = policy_of(session.get_one(Dataset, round_.dataset_id)), answered(session, round_)
    if is_enough(progress, policy):
        workflow_id = f"close-round-{round_.id}-{progress.answered}"
        delay = policy.close_quiet_seconds + 1
        queues.enqueue(CLOSE_WORKFLOW, SYNC_QUEUE, round_.dataset_id, workflow_id=workflow_id, delay=delay)


def change_state(round_: Round, state: str, error: str | None = None) -> None:
    """Put a round into a state, with what went wrong or without."""
    round_.state = state
    round_.error = error[:4000] if error else None
    round_.changed_at = now()
