"""Gold tasks: samples whose mask is known, mixed into a round, to learn how annotators paint.

They look like tasks of the control group: mispredictions of the same version, without a proposed mask and
without what was answered before.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from imil_backend.errors import MaskError
from imil_backend.images.masks.masks import dice
from imil_backend.loop.answers.sample_states import in_order
from imil_backend.loop.asking.known_masks import known_of, known_samples, painted_by
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.policy import Policy, policy_of
from imil_backend.loop.base.states import Purpose
from imil_backend.loop.versions.mispredictions import MinedMisprediction, all_mispredictions
from imil_backend.store.tables import Annotation, Dataset, Project, Round, Sample, Task, Version

NOT_PUSHED = 0  # instead of a task's id in Label Studio


def choose_gold(
    session: Session,
    dataset: Dataset,
    policy: Policy,
    number: int,
    asked: Collection[str],
    version: Version | None = None,
) -> list[MinedMisprediction]:
    """The gold tasks of a round: drawn by chance among mispredictions, those first that nobody was asked.

    Args:
        session: of the store.
        dataset: whose samples.
        policy: with the share of gold tasks.
        number: of the round, which the draw depends on.
        asked: keys of the samples that the round asks; none of them is taken.
        version: which is asked for its mispredictions; the champion if absent.

    Returns:
        Fewer than the share where not as many are known.

    Raises:
        RoundError: there is no champion yet.
    """
    wanted = math.ceil(round(policy.gold_share * len(asked), 6))
    if not wanted:
        return []
    known = set(session.scalars(known_samples(dataset.id)))
    answered = select(Annotation.task_id).where(~Annotation.deleted)
    tasks = select(Task.sample_id).join(Task.sample).where(Sample.dataset_id == dataset.id, ~Task.deleted)
    seen = set(session.scalars(tasks))
    waiting = set(session.scalars(tasks.where(Task.id.not_in(answered))))
    found = [
        each
        for each in all_mispredictions(session, dataset, version)
        if each.sample.id in known - waiting and each.sample.key not in asked and not each.sample.excluded
    ]
    return sorted(found, key=lambda each: (each.sample.id in seen, _drawn(number, each)))[:wanted]


def gold_of(
    session: Session, project: Project, round_: Round, asked: Collection[str]
) -> list[MinedMisprediction]:
    """The gold tasks of a round that is being pushed; chosen and noted the first time.

    They are noted before any is pushed, so that a push that was interrupted resumes with the same.

    Args:
        session: of the store.
        project: where the round is pushed to.
        round_: the round.
        asked: keys of the samples that it asks.
    """
    version = session.get_one(Version, round_.mined_version_id)
    dataset = session.get_one(Dataset, round_.dataset_id)
    if kept := gold_keys(session, round_):
        return [each for each in all_mispredictions(session, dataset, version) if each.sample.key in kept]
    chosen = choose_gold(session, dataset, policy_of(dataset), round_.number, asked, version)
    for each in chosen:
        session.add(
            Task(
                project_id=project.id,
                round_id=round_.id,
                sample_id=each.sample.id,
                label_studio_id=NOT_PUSHED,
                rank=each.rank,
                purpose=Purpose.GOLD.value,
                deleted=True,  # until Label Studio has it
            )
        )
    return chosen


def gold_keys(session: Session, round_: Round) -> set[str]:
    """The keys of the samples of a round's gold tasks."""
    gold = select(Sample.key).join(Task).where(Task.round_id == round_.id)
    return set(session.scalars(gold.where(Task.purpose == Purpose.GOLD.value)))


def pushed_gold(session: Session, round_: Round) -> int:
    """How many gold tasks of a round Label Studio has."""
    gold = select(func.count(Task.id)).where(Task.round_id == round_.id, ~Task.deleted)
    return session.scalar(gold.where(Task.purpose == Purpose.GOLD.value)) or 0


def mixed(
    asked: Sequence[MinedMisprediction], gold: Sequence[MinedMisprediction], number: int
) -> list[MinedMisprediction]:
    """What a round asks, in order, with its gold tasks at places drawn by chance."""
    items = list(asked)
    for each in gold:
        items.insert(int(_drawn(number, each), 16) % (len(items) + 1), each)
    return items


def _drawn(number: int, item: MinedMisprediction) -> str:
    return hashlib.sha256(f"gold {number} {item.sample.key}".encode()).hexdigest()


@dataclass(frozen=True)
class GoldFigures:
    """How an annotator has answered gold tasks.

    Attributes:
        answers: how many.
        same: of these, those with the known answer (painted, nothing to black out and so on).
        dice: mean Dice with the known mask, 0..1; None where there was nothing to compare.
        compared: of how many answers that is the mean.
    """

    answers: int
    same: int
    dice: float | None
    compared: int


def gold_figures(
    backend: Backend, session: Session, given: Iterable[Annotation]
) -> dict[int | None, GoldFigures]:
    """How each annotator has answered gold tasks, by the annotator's key.

    Nobody is compared with an answer of their own.

    Args:
        backend: with masks.
        session: of the store.
        given: to a dataset's gold tasks, of its `standing_answers`.
    """
    latest = {(each.annotator, each.task_id): each for each in in_order(given)}
    told: dict[int | None, list[tuple[bool, float | None]]] = defaultdict(list)
    for annotation in latest.values():
        if (compared := _compared(backend, session, annotation)) is not None:
            told[annotation.annotator].append(compared)
    return {annotator: _figures(own) for annotator, own in told.items()}


def _compared(backend: Backend, session: Session, annotation: Annotation) -> tuple[bool, float | None] | None:
    """Whether an answer is the known one, and the Dice of the masks; None where nothing is known."""
    known = known_of(backend, session, annotation.sample)
    if known is None or (known.annotation and known.annotation.annotator == annotation.annotator):
        return None
    try:
        painted = painted_by(backend, annotation)
    except MaskError:
        painted = None  # its file is missing; the answer is compared all the same
    is_same = annotation.answer == known.answer
    if painted is None or known.mask is None:
        return is_same, None
    return is_same, dice(painted, known.mask)


def _figures(told: Sequence[tuple[bool, float | None]]) -> GoldFigures:
    dices = [each for _, each in told if each is not None]
    return GoldFigures(len(told), sum(same for same, _ in told), fmean(dices) if dices else None, len(dices))
