"""What a version got wrong on its training split when it was mined, and what a round asks about."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from imil_backend.errors import StoreError
from imil_backend.learning.contract.training_job import MINING_FILE, read_json
from imil_backend.learning.scoring.ranking import budget_of, rank_mispredictions
from imil_backend.loop.base.policy import Policy, policy_of
from imil_backend.loop.base.states import Purpose
from imil_backend.loop.versions.champions import required_champion
from imil_backend.store.tables import Annotation, Dataset, Sample, Task, Version


@dataclass(frozen=True)
class MinedMisprediction:
    """A training sample that a version got wrong when its training was mined, or is asked all the same."""

    sample: Sample
    rank: int  # 1 = the most instructive
    wrong: bool
    predicted: str
    probability: float  # of the predicted class
    margin: float
    likely_label_error: bool


def all_mispredictions(
    session: Session, dataset: Dataset, version: Version | None = None
) -> list[MinedMisprediction]:
    """Everything that a version, without one the champion, got wrong; the most instructive first.

    Raises:
        RoundError: there is no champion yet.
    """
    version = version or required_champion(session, dataset)
    ranked, _ = _ranked(version, replace(policy_of(dataset), ask="mispredicted"))
    return _described(session, dataset, {rank: record for rank, record in ranked.items() if record["wrong"]})


def next_mispredictions(
    session: Session,
    dataset: Dataset,
    policy: Policy | None = None,
    version: Version | None = None,
    chosen: Collection[str] = (),
) -> list[MinedMisprediction]:
    """What a round asks of the champion's training samples, the most instructive first, cut to the budget.

    Samples that were asked before are left out, unless the policy says to repeat; those that still wait for
    an answer always are.

    Args:
        session: of the store.
        dataset: whose samples.
        policy: the dataset's if absent.
        version: which is asked for its mispredictions; the champion if absent.
        chosen: keys of the samples that the round asks already; the budget counts them.

    Raises:
        RoundError: there is no champion yet.
        StoreError: what it got wrong cannot be read.
    """
    return _described(session, dataset, _next(session, dataset, policy, version, chosen))


def count_next(session: Session, dataset: Dataset) -> int:
    """How many samples a next round would ask, as of `next_mispredictions`."""
    return len(_next(session, dataset))


def _next(
    session: Session,
    dataset: Dataset,
    policy: Policy | None = None,
    version: Version | None = None,
    chosen: Collection[str] = (),
) -> dict[int, Mapping[str, Any]]:
    """The records of what a round asks, by rank."""
    policy = policy or policy_of(dataset)
    ranked, to_ask = _ranked(version or required_champion(session, dataset), policy)
    asked = _asked(session, dataset, policy)
    mine = {rank: record for rank, record in ranked.items() if record["key"] in chosen} if chosen else {}
    others = (
        (rank, record)
        for rank, record in ranked.items()
        if rank not in mine and record["key"] not in asked and (rank <= to_ask or policy.fill_budget)
    )
    training = select(func.count(Sample.id)).where(
        Sample.dataset_id == dataset.id, Sample.split == "train", Sample.excluded.is_(None)
    )
    left = max(0, budget_of(session.scalar(training) or 0, policy.budget) - len(mine))
    return {**mine, **dict(islice(others, left))}


def _ranked(version: Version, policy: Policy) -> tuple[dict[int, Mapping[str, Any]], int]:
    """The record of every sample that was mined by its rank, and how many of the first are to be asked.

    Raises:
        StoreError: the records cannot be read.
    """
    path = Path(version.directory) / MINING_FILE
    try:
        return _rank(path, path.stat().st_mtime_ns, policy)
    except OSError as error:
        raise StoreError(
            f"What version {version.name} got wrong cannot be read from {path} ({error.strerror}). Restore "
            "it from a backup, or train again with `imil train --fresh`."
        ) from error


@lru_cache(maxsize=1)  # a push asks several times, and what was mined never changes
def _rank(path: Path, _written: int, policy: Policy) -> tuple[dict[int, Mapping[str, Any]], int]:
    mined = read_json(path)
    rank = partial(
        rank_mispredictions,
        mined,
        budget=len(mined),
        ask=policy.ask,
        ranking=policy.ranking,
        per_class=policy.class_quota,
    )
    ranked = rank(fill_with_uncertain=True)
    return dict(enumerate(ranked, start=1)), len(rank())


def _asked(session: Session, dataset: Dataset, policy: Policy) -> set[str]:
    """Keys of the samples that are not to be asked again, or have left training since they were mined."""
    asked = select(Sample.key).join(Task).where(Sample.dataset_id == dataset.id, ~Task.deleted)
    asked = asked.where(Task.purpose == Purpose.ASKED.value)
    if policy.repeat:
        asked = asked.where(Task.id.not_in(select(Annotation.task_id).where(~Annotation.deleted)))
    excluded = select(Sample.key).where(Sample.dataset_id == dataset.id, Sample.excluded.is_not(None))
    return {*session.scalars(asked), *session.scalars(excluded)}


def _described(
    session: Session, dataset: Dataset, chosen: Mapping[int, Mapping[str, Any]]
) -> list[MinedMisprediction]:
    keys = [record["key"] for record in chosen.values()]
    samples: dict[str, Sample] = {}
    for start in range(0, len(keys), 500):  # a statement takes a limited number of values
        found = session.scalars(select(Sample).where(Sample.key.in_(keys[start : start + 500])))
        samples |= {sample.key: sample for sample in found}
    return [
        MinedMisprediction(
            sample=samples[record["key"]],
            rank=rank,
            wrong=record["wrong"],
            predicted=dataset.classes[record["predicted"]],
            probability=record["probability"],
            margin=record["margin"],
            likely_label_error=record["likely_label_error"],
        )
        for rank, record in sorted(chosen.items())
    ]
