"""The versions of a dataset: where each comes from, what it measured, and when it was promoted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.errors import NotFoundError
from imil_backend.learning.plots.progress import ROUNDS
from imil_backend.learning.plots.themed import Plot
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.dashboard.datasets import dataset_of
from imil_backend.loop.dashboard.given_answers import Given, given
from imil_backend.loop.evaluation.kept import KeptEvaluation, folder_of, kept_evaluation
from imil_backend.loop.versions.champions import champion_of, rejected_versions
from imil_backend.loop.versions.removed_weights import removed_weights
from imil_backend.store.tables import Promotion, Round, Version


@dataclass(frozen=True)
class VersionLine:
    """A version in the family tree.

    Attributes:
        id: stands in addresses.
        round: number of the round that has trained it; None: no round of the store.
        depth: how many versions stand above it: the champion that it was compared with, and so on.
        verdict: promote, reject or undecided; None of the first version.
        rejected: by a person, because the verdict was undecided.
        evaluation: None of an earlier release; `imil report` makes it.
    """

    id: int
    name: str
    round: int | None
    depth: int
    verdict: str | None
    rejected: bool
    is_champion: bool
    weights_removed: datetime | None
    blacked_out: int
    created_at: datetime
    evaluation: KeptEvaluation | None


@dataclass(frozen=True)
class Promoted:
    """An entry in the list of champions."""

    version: str
    by: str  # loop, person, rollback
    reason: str
    at: datetime


@dataclass(frozen=True)
class Versions:
    """What the page of the versions shows."""

    dataset: str
    lines: tuple[VersionLine, ...]  # a version before those that were compared with it
    promotions: tuple[Promoted, ...]  # the latest first
    latest: VersionLine | None  # of those with an evaluation
    plot: Plot | None  # its metrics over rounds
    given: Given  # all answers so far


@dataclass(frozen=True)
class Difference:
    """A field of the recipe that is not as in the version that it was compared with."""

    name: str
    before: object
    now: object


@dataclass(frozen=True)
class VersionPage:
    """What the page of a version shows."""

    dataset: str
    classes: tuple[str, ...]
    line: VersionLine
    compared_with: str | None
    differences: tuple[Difference, ...]
    recipe: Mapping[str, Any]
    choices: Mapping[str, Any]  # made at run time
    code_version: str
    fingerprint: str
    seconds: float
    looks: int  # how many versions the test split has measured
    simulated: int  # of all answers so far, those by the simulated clinician


def versions_of(backend: Backend, dataset_id: int) -> Versions:
    """All versions of a dataset.

    Raises:
        NotFoundError: there is no dataset of this number.
    """
    with backend.store.begin() as session:
        dataset = dataset_of(session, dataset_id)
        found = _versions(session, dataset_id)
        lines = _lines(session, dataset_id, found)
        answers = given(session, dataset_id)
        promotions = select(Promotion).where(Promotion.dataset_id == dataset_id).order_by(Promotion.id.desc())
        promoted = [
            Promoted(each.version.name, each.by, each.reason, each.created_at)
            for each in session.scalars(promotions)
        ]
    latest = max((line for line in lines if line.evaluation), key=lambda line: line.id, default=None)
    plots = latest.evaluation.plots if latest and latest.evaluation else ()
    return Versions(
        dataset=dataset.name,
        lines=tuple(lines),
        promotions=tuple(promoted),
        latest=latest,
        plot=next((plot for plot in plots if plot.file == ROUNDS), None),
        given=answers,
    )


def version_page(backend: Backend, dataset_id: int, version_id: int) -> VersionPage:
    """A version of a dataset.

    Raises:
        NotFoundError: the dataset has no version of this number.
    """
    with backend.store.begin() as session:
        dataset = dataset_of(session, dataset_id)
        version = _version(session, dataset_id, version_id)
        found = _versions(session, dataset_id)
        line = next(each for each in _lines(session, dataset_id, found) if each.id == version_id)
        simulated = given(session, dataset_id, until=line.round).simulated
    parent = next((each for each in found if each.id == version.parent_id), None)
    return VersionPage(
        dataset=dataset.name,
        classes=tuple(dataset.classes),
        line=line,
        compared_with=parent.name if parent else None,
        differences=tuple(_differences(parent.recipe, version.recipe)) if parent else (),
        recipe=version.recipe,
        choices=version.runtime_info,
        code_version=version.code_version,
        fingerprint=version.fingerprint,
        seconds=version.seconds,
        looks=sum(_has_seen_test(each) for each in found),
        simulated=simulated,
    )


def plot_of(backend: Backend, dataset_id: int, version_id: int, file: str) -> bytes:
    """The SVG of a version's plot.

    Raises:
        NotFoundError: there is none of this name.
    """
    with backend.store.begin() as session:
        version = _version(session, dataset_id, version_id)
    kept = kept_evaluation(version)
    plots = [] if kept is None else [*kept.plots, *(plot for each in kept.plots_of.values() for plot in each)]
    if file not in {plot.file for plot in plots}:
        raise NotFoundError(f"Version {version.name} has no plot {file!r}.")
    return Path(folder_of(version), file).read_bytes()


def _version(session: Session, dataset_id: int, version_id: int) -> Version:
    version = session.get(Version, version_id)
    if version is None or version.dataset_id != dataset_id:
        raise NotFoundError(f"Dataset {dataset_id} has no version {version_id}.")
    return version


def _versions(session: Session, dataset_id: int) -> Sequence[Version]:
    found = select(Version).where(Version.dataset_id == dataset_id).order_by(Version.id)
    return session.scalars(found).all()


def _lines(session: Session, dataset_id: int, found: Sequence[Version]) -> list[VersionLine]:
    rounds = {
        round_.version_id: round_
        for round_ in session.scalars(select(Round).where(Round.dataset_id == dataset_id))
    }
    champion, removed = champion_of(session, dataset_id), removed_weights(session, dataset_id)
    rejected = rejected_versions(session, dataset_id)
    return [
        VersionLine(
            id=version.id,
            name=version.name,
            round=rounds[version.id].number if version.id in rounds else None,
            depth=depth,
            verdict=_verdict(rounds.get(version.id)) if version.parent_id else None,
            rejected=version.id in rejected,
            is_champion=champion is not None and champion.id == version.id,
            weights_removed=removed.get(version.id),
            blacked_out=version.blacked_out,
            created_at=version.created_at,
            evaluation=kept_evaluation(version),
        )
        for version, depth in _tree(found)
    ]


def _has_seen_test(version: Version) -> bool:
    """Whether there was a test split when it was trained."""
    return version.metrics.get("test", {}).get("accuracy") is not None


def _verdict(round_: Round | None) -> str | None:
    return (round_.verdict or {}).get("verdict") if round_ else None


def _tree(found: Sequence[Version]) -> list[tuple[Version, int]]:
    """Each version with its depth, before those that were compared with it; the oldest first."""
    known = {version.id for version in found}
    ordered: list[tuple[Version, int]] = []
    waiting = [(version, 0) for version in reversed(found) if version.parent_id not in known]
    while waiting:
        version, depth = waiting.pop()
        ordered.append((version, depth))
        waiting += [(each, depth + 1) for each in reversed(found) if each.parent_id == version.id]
    return ordered


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    names = [*now, *(name for name in before if name not in now)]
    return [
        Difference(name, before.get(name, "-"), now.get(name, "-"))
        for name in names
        if before.get(name, "-") != now.get(name, "-")
    ]
