"""What is asked now, and what would be asked next, with the reason of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from imil_backend.errors import ImilError, LearningError
from imil_backend.loop.base import audit
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.policy import policy_of
from imil_backend.loop.base.states import ANSWERS, OPEN, PUSHING, Purpose
from imil_backend.loop.dashboard.datasets import dataset_of
from imil_backend.loop.dashboard.keeping import Kept, Stamp, answers_stamp, stamp_of
from imil_backend.loop.projects.links import task_link
from imil_backend.loop.rounds.lifecycle import latest_round
from imil_backend.loop.versions.champions import required_champion
from imil_backend.loop.versions.mispredictions import MinedMisprediction, next_mispredictions
from imil_backend.store.tables import Annotation, Dataset, Project, Round, Sample, Task, Version

SHOWN = 100  # of each list


@dataclass(frozen=True)
class Asked:
    """A sample that is asked about, or would be."""

    key: str
    name: str
    label: str
    predicted: str
    probability: float  # of the predicted class, when the training split was mined
    rank: int
    why: str
    task: str | None  # its address in Label Studio


@dataclass(frozen=True)
class Listed:
    """The first of a list, and how many it has."""

    shown: tuple[Asked, ...] = ()
    count: int = 0


@dataclass(frozen=True)
class Queue:
    """What the page of the queue shows."""

    dataset: str
    ask: str  # the policy's
    ranking: str
    round: int | None  # that is open, or being pushed
    is_pushing: bool  # not all of its tasks are made yet
    waiting: Listed  # its tasks that want answers
    following: Listed  # what the next round would ask
    problem: str | None  # why that is not known


def queue_of(backend: Backend, dataset_id: int) -> Queue:
    """The queue of a dataset.

    Raises:
        NotFoundError: there is no dataset of this number.
    """
    with backend.store.begin() as session:
        dataset = dataset_of(session, dataset_id)
        policy, latest = policy_of(dataset), latest_round(session, dataset_id)
        asking = latest if latest is not None and latest.state in {PUSHING, OPEN} else None
        waiting, following, problem = Listed(), Listed(), None
        try:
            waiting = _waiting(backend, session, dataset, asking) if asking else waiting
            stamp = _stamp(session, dataset)
            following = _kept.get(stamp, lambda: _listed(next_mispredictions(session, dataset), {}))
        except ImilError as error:
            problem = str(error)
    return Queue(
        dataset=dataset.name,
        ask=policy.ask,
        ranking=policy.ranking,
        round=asking.number if asking else None,
        is_pushing=asking is not None and asking.state == PUSHING,
        waiting=waiting,
        following=following,
        problem=problem,
    )


_kept = Kept[Listed]()


def _stamp(session: Session, dataset: Dataset) -> Stamp:
    """Of what the next round would ask: it depends on the champion, the policy, and what was asked before."""
    champion = required_champion(session, dataset)
    tasks = select(func.count(Task.id), func.max(Task.id)).join(Project, Project.id == Task.project_id)
    standing = tasks.where(Project.dataset_id == dataset.id, ~Task.deleted)
    return (
        *answers_stamp(session, dataset.id),
        *stamp_of(session, dataset.id, audit.LEFT_OUT),
        *session.execute(standing).one(),
        champion.id,
        policy_of(dataset),
    )


def _waiting(backend: Backend, session: Session, dataset: Dataset, round_: Round) -> Listed:
    """The tasks of a round that fewer people have answered than are to."""
    version = session.get(Version, round_.mined_version_id)
    if version is None:
        raise LearningError(f"Round {round_.number} has no version that asks.")
    answers = (
        select(Annotation.task_id)
        .join(Annotation.task)
        .where(Task.round_id == round_.id, ~Annotation.deleted, Annotation.answer.in_(ANSWERS))
        .group_by(Annotation.task_id)
        .having(func.count(func.distinct(func.coalesce(Annotation.annotator, 0))) >= round_.readers)
    )
    open_tasks = (
        select(Sample.key, Task.label_studio_id, Project)
        .join(Task, Task.sample_id == Sample.id)
        .join(Project, Project.id == Task.project_id)
        .where(Task.round_id == round_.id, ~Task.deleted, Task.purpose == Purpose.ASKED.value)
        .where(Task.id.not_in(answers))
    )
    addresses = {key: task_link(backend, project, task) for key, task, project in session.execute(open_tasks)}
    asked = next_mispredictions(session, dataset, version=version, chosen=addresses)
    return _listed([each for each in asked if each.sample.key in addresses], addresses)


def _listed(asked: list[MinedMisprediction], addresses: Mapping[str, str]) -> Listed:
    shown = (
        Asked(
            key=each.sample.key,
            name=each.sample.name,
            label=each.sample.label,
            predicted=each.predicted,
            probability=each.probability,
            rank=each.rank,
            why=_why(each),
            task=addresses.get(each.sample.key),
        )
        for each in asked[:SHOWN]
    )
    return Listed(tuple(shown), len(asked))


def _why(asked: MinedMisprediction) -> str:
    if asked.likely_label_error:
        return "It was wrong, and stayed wrong while its class was learned: the label may be wrong."
    if asked.wrong:
        return "The model was wrong."
    return "The model was right, but may be for the wrong reason, or was not sure."
