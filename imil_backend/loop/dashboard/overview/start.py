"""The datasets, one a card: how far each is, and what needs a person."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from imil_backend.label_studio.labeling.answers import Answer
from imil_backend.learning.evaluation.estimates import Estimate
from imil_backend.loop.base.backend import Backend, project_of
from imil_backend.loop.base.states import OPEN, TRAINING
from imil_backend.loop.dashboard.datasets import made_as
from imil_backend.loop.dashboard.given_answers import given
from imil_backend.loop.dashboard.keeping import contradicted_samples
from imil_backend.loop.dashboard.overview.pace import Pace, pace_of
from imil_backend.loop.evaluation.kept import kept_evaluation
from imil_backend.loop.queues.launching import worker_is_running
from imil_backend.loop.rounds.lifecycle import Answered, answered, latest_round
from imil_backend.loop.rounds.training import training_progress
from imil_backend.loop.versions.champions import champion_of
from imil_backend.loop.views.undecided import undecided_since
from imil_backend.store.tables import (
    Annotation,
    Dataset,
    Project,
    Promotion,
    Round,
    Sample,
    SetAside,
    Version,
)


@dataclass(frozen=True)
class Need:
    """Something that waits for a person, as a sentence, and the page that shows it."""

    text: str
    page: str | None = None  # name of the page's function


@dataclass(frozen=True)
class Champion:
    """The version in use."""

    id: int
    name: str
    since: datetime
    accuracy: Estimate | None  # on the validation split; None: it was not kept


@dataclass(frozen=True)
class RoundState:
    """How far the latest round is."""

    number: int
    is_baseline: bool
    state: str  # one of loop.base.states
    since: datetime
    progress: Answered
    readers: int
    pace: Pace | None  # of an open round
    training: str | None  # of a round that is trained: where it is


@dataclass(frozen=True)
class Card:
    """A dataset on the start page."""

    id: int
    name: str
    made: str | None  # "phantoms" or "planted", where its images are
    samples: dict[str, int]  # by split
    round: RoundState | None
    champion: Champion | None
    simulated: int  # answers to any round by the simulated clinician
    needs: tuple[Need, ...]


@dataclass(frozen=True)
class Start:
    """What the start page shows."""

    worker_runs: bool
    cards: tuple[Card, ...]


def start(backend: Backend, only: Collection[int] | None = None) -> Start:
    """All datasets, or only those of these numbers; the oldest first."""
    with backend.store.begin() as session:
        datasets = session.scalars(select(Dataset).order_by(Dataset.id)).all()
        shown = [each for each in datasets if only is None or each.id in only]
        cards = tuple(_card(backend, session, dataset) for dataset in shown)
    return Start(worker_is_running(backend), cards)


def _card(backend: Backend, session: Session, dataset: Dataset) -> Card:
    counted = select(Sample.split, func.count()).where(Sample.dataset_id == dataset.id).group_by(Sample.split)
    round_ = latest_round(session, dataset.id)
    return Card(
        id=dataset.id,
        name=dataset.name,
        made=made_as(session, dataset.id),
        samples={str(split): int(count) for split, count in session.execute(counted)},
        round=_round(backend, session, round_) if round_ else None,
        champion=_champion(session, dataset),
        simulated=given(session, dataset.id).simulated,
        needs=tuple(_needs(session, dataset, round_)),
    )


def _round(backend: Backend, session: Session, round_: Round) -> RoundState:
    return RoundState(
        number=round_.number,
        is_baseline=round_.is_baseline,
        state=round_.state,
        since=round_.changed_at,
        progress=answered(session, round_),
        readers=round_.readers,
        pace=pace_of(session, round_) if round_.state == OPEN else None,
        training=_training(backend, round_) if round_.state == TRAINING else None,
    )


def _training(backend: Backend, round_: Round) -> str:
    progress = training_progress(backend, round_)
    if progress is None:
        return "waits for the worker"
    if progress["phase"] == "training":
        return f"epoch {progress['epoch']} of {progress['epochs']}"
    return str(progress["phase"])


def _champion(session: Session, dataset: Dataset) -> Champion | None:
    version = champion_of(session, dataset.id)
    if version is None:
        return None
    promoted = select(func.max(Promotion.created_at)).where(Promotion.version_id == version.id)
    return Champion(version.id, version.name, session.scalars(promoted).one(), _accuracy(version))


def _accuracy(version: Version) -> Estimate | None:
    kept = kept_evaluation(version)
    return kept.splits["validation"].estimate("accuracy") if kept and "validation" in kept.splits else None


def _needs(session: Session, dataset: Dataset, round_: Round | None) -> list[Need]:
    needs = []
    if round_ is None:
        needs.append(Need("Nothing is trained yet: `imil train`."))
    elif round_.error:
        needs.append(Need(f"Round {round_.number} is {round_.state}: {round_.error}", "rounds"))
    if since := undecided_since(session, dataset.id):
        needs.append(
            Need(
                f"The latest verdict is undecided since {since:%Y-%m-%d}. You decide: `imil promote "
                "VERSION` or `imil reject VERSION`.",
                "rounds",
            )
        )
    if count := len(contradicted_samples(session, dataset.id)):
        needs.append(Need(f"{_samples(count)} given different answers by different people.", "annotators"))
    if set_aside := _set_aside(session, dataset.id):
        needs.append(Need(f"Set aside, with reasons in `imil status`: {set_aside}.", "annotators"))
    project = project_of(session, dataset.id)
    if project is not None and project.gone_at is not None:
        needs.append(Need(f"Label Studio has its project no longer, since {project.gone_at:%Y-%m-%d}."))
    return needs


def _samples(count: int) -> str:
    return "1 sample was" if count == 1 else f"{count} samples were"


def _set_aside(session: Session, dataset_id: int) -> str:
    """How much of what kind could not be used; empty where nothing was."""
    noted = select(SetAside.kind, func.count()).where(SetAside.dataset_id == dataset_id)
    counts = {str(kind): int(count) for kind, count in session.execute(noted.group_by(SetAside.kind))}
    answers = (
        select(func.count(Annotation.id))
        .join(Project, Project.id == Annotation.project_id)
        .where(
            Project.dataset_id == dataset_id,
            ~Annotation.deleted,
            Annotation.answer == Answer.SET_ASIDE.value,
        )
    )
    if count := session.scalar(answers):
        counts["annotation"] = counts.get("annotation", 0) + count
    return ", ".join(f"{count} {_several(kind, count)}" for kind, count in sorted(counts.items()))


def _several(kind: str, count: int) -> str:
    return kind if count == 1 else f"{kind}{'es' if kind == 'class' else 's'}"
