"""Erases samples: first their rows, in one transaction, then everything else by the plan that this leaves."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.errors import ImilError, LabelStudioError, NotFoundError, RoundError, StoreError
from imil_backend.label_studio.api.task_deletion import delete_tasks_of
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.locks import CLEANUP, ERASURE, LockTakenError, any_is_held, locked
from imil_backend.loop.base.states import TRAINING
from imil_backend.loop.comparing.runs import comparisons_under_way
from imil_backend.loop.erasure.plan import Findings, Plan, make_plan, plan_from_json
from imil_backend.loop.erasure.rows import erase_rows
from imil_backend.loop.erasure.subject import Subject
from imil_backend.loop.erasure.sweeping import (
    rounds_to_report_anew,
    still_found,
    sweep,
    sweep_copies,
)
from imil_backend.loop.erasure.tidying import tidy
from imil_backend.loop.queues.ended import remove_ended_workflows
from imil_backend.loop.rounds.report import report_round
from imil_backend.store.tables import Erasure, Project, Round

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """How an erasure has ended.

    Attributes:
        problem: why it is not finished; None: it is.
        tasks: how many were deleted in Label Studio.
        uploads: files that Label Studio was given, and keeps on its disk after it has forgotten them.
        still_found: files of the data directory that name a sample all the same.
    """

    problem: str | None = None
    tasks: int = 0
    uploads: tuple[str, ...] = ()
    still_found: tuple[str, ...] = ()


Find = Callable[[Session], Subject]


def preview(backend: Backend, find: Find) -> tuple[Plan, Findings]:
    """What an erasure would do. Changes nothing."""
    with backend.store.begin() as session:
        return make_plan(backend, session, find(session))


def erase(backend: Backend, find: Find, by: str, reason: str) -> tuple[Findings, Outcome]:
    """Erase samples from the database, the data directory and Label Studio.

    Killed at any time, either nothing has happened or `finish_erasures` goes on with it.

    Args:
        backend: the store, the files and Label Studio.
        find: finds the samples.
        by: who erases, for the audit trail.
        reason: for the audit trail.

    Raises:
        NotFoundError: there are no such samples.
        RoundError: a training or a push is under way.
        StoreError: another erasure, a cleanup or a backup is under way.
    """
    with _alone(backend):
        with backend.store.begin() as session:
            check_nothing_runs(backend, session)
            subject = find(session)
            plan, findings = make_plan(backend, session, subject)
            erasure = erase_rows(session, subject.samples, plan, findings, by, reason)
        return findings, _finish(backend, erasure.id)


def finish_erasures(backend: Backend) -> list[Outcome]:
    """Go on with erasures that were interrupted, or that Label Studio could not be reached for.

    Raises:
        RoundError, StoreError: as `erase`.
    """
    with backend.store.begin() as session:
        ids = session.scalars(select(Erasure.id).order_by(Erasure.id)).all()
    if not ids:
        return []
    with _alone(backend):
        return [_finish(backend, number) for number in ids]


def unfinished_erasures(session: Session) -> list[str]:
    """Why erasures are not finished, one text for each."""
    found = session.scalars(select(Erasure).order_by(Erasure.id))
    return [each.problem or "It was interrupted." for each in found]


@contextmanager
def _alone(backend: Backend) -> Iterator[None]:
    try:
        with locked(backend, ERASURE, wait=False), locked(backend, CLEANUP, wait=False):
            yield
    except LockTakenError as error:
        raise StoreError(
            "Another `imil erase`, an `imil gc` or a backup is under way. Try again when it has ended."
        ) from error


def check_nothing_runs(backend: Backend, session: Session) -> None:
    """Check that no training, push or comparison is under way. What begins now waits for the erasure's end.

    Raises:
        RoundError: one is.
    """
    if running := comparisons_under_way(backend.directory):
        raise RoundError(
            f"The comparison {running[0]!r} is under way, and may use what is to be erased. Stop `imil "
            "compare` (Ctrl-C; finished trainings are kept), and erase again."
        )
    training = session.scalar(select(Round).where(Round.state == TRAINING).limit(1))
    if training is not None:
        raise RoundError(
            f"Round {training.number} is being trained, and may use what is to be erased. Wait for its end, "
            "or cancel it (`imil cancel`; all answers are kept), and erase again."
        )
    if any(any_is_held(backend, kind) for kind in ("push", "round", "propose")):
        raise RoundError(
            "A round is being pushed or trained, or masks are proposed. Erase again when that has ended."
        )


def _finish(backend: Backend, erasure_id: int) -> Outcome:
    plan = _plan(backend, erasure_id)
    outcome = Outcome()
    try:
        sweep_copies(backend.directory)
        if plan is not None:
            outcome = _carry_out(backend, erasure_id, plan)
        tidy(backend)
    except ImilError as error:
        logger.warning("An erasure is not finished: %s", error)
        with backend.store.begin() as session:
            session.get_one(Erasure, erasure_id).problem = str(error)[:2000]
        return replace(outcome, problem=str(error))
    with backend.store.begin() as session:
        session.delete(session.get_one(Erasure, erasure_id))
    return outcome


def _plan(backend: Backend, erasure_id: int) -> Plan | None:
    with backend.store.begin() as session:
        raw = session.get_one(Erasure, erasure_id).plan
    return plan_from_json(raw) if raw else None


def _carry_out(backend: Backend, erasure_id: int, plan: Plan) -> Outcome:
    if not plan.swept:
        with backend.store.begin() as session:
            check_nothing_runs(backend, session)
        plan = replace(plan, rounds=rounds_to_report_anew(backend, plan))
        _keep(backend, erasure_id, plan)
        sweep(backend, plan)
        remove_ended_workflows(backend, timedelta(0))  # what went wrong in one may name a sample
        _report_rounds(backend, plan.rounds)
        plan = replace(plan, swept=True)
        _keep(backend, erasure_id, plan)
    tasks, uploads = _delete_tasks(backend, plan)
    left = still_found(backend, plan)
    _keep(backend, erasure_id, None)
    return Outcome(tasks=tasks, uploads=uploads, still_found=tuple(left))


def _keep(backend: Backend, erasure_id: int, plan: Plan | None) -> None:
    with backend.store.begin() as session:
        session.get_one(Erasure, erasure_id).plan = plan.to_json() if plan else {}


def _report_rounds(backend: Backend, round_ids: Iterable[int]) -> None:
    """Those that were removed, without the samples."""
    with backend.store.begin() as session:
        rounds = session.scalars(select(Round).where(Round.id.in_(round_ids))).all()
    for round_ in rounds:
        try:
            report_round(backend, round_.id)
        except (ImilError, OSError) as error:  # no reason to keep a patient's traces
            logger.warning(
                "The report of round %d is not complete (%s). Write it again: `imil report --round %d`.",
                round_.number,
                error,
                round_.number,
            )


def _delete_tasks(backend: Backend, plan: Plan) -> tuple[int, tuple[str, ...]]:
    """Delete the samples' tasks in Label Studio.

    Raises:
        LabelStudioError: it cannot be reached or refuses, or a project is in another one.
    """
    here = backend.settings.label_studio_url
    with backend.store.begin() as session:
        projects = session.scalars(select(Project).where(Project.id.in_(plan.projects))).all()
    tasks = 0
    uploads: list[str] = []
    for project in projects:
        if project.instance != here:
            raise LabelStudioError(
                f"Project {project.label_studio_id} is in {project.instance}, and LABEL_STUDIO_URL is "
                f"{here}: set it to that one and run `imil erase`, so that the tasks are deleted there."
            )
        try:
            done = delete_tasks_of(backend.label_studio, project.label_studio_id, set(plan.keys))
        except NotFoundError:  # the project was deleted, its tasks with it
            continue
        tasks += done.tasks
        uploads += done.uploads
    return tasks, tuple(uploads)
