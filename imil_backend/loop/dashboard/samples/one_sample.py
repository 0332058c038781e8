"""A sample: what people painted in it, what training sees, what each version makes of it, and its history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.learning.contract.evidence import read_evidence
from imil_backend.learning.contract.training_job import PREDICTIONS_FILE, read_json
from imil_backend.loop.answers.pseudonyms import SIMULATED, Names, called, with_names
from imil_backend.loop.answers.sample_states import (
    CountedAnswer,
    SampleState,
    decides,
    in_order,
    sample_states,
)
from imil_backend.loop.base.audit import history
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.policy import policy_of
from imil_backend.loop.base.states import CLOSED
from imil_backend.loop.dashboard.datasets import dataset_of
from imil_backend.loop.dashboard.given_answers import WORDS, Given
from imil_backend.loop.dashboard.people import names_of
from imil_backend.loop.dashboard.rounds.one_round import find_round
from imil_backend.loop.dashboard.rounds.round_answers import in_words
from imil_backend.loop.dashboard.rounds.round_pictures import EVIDENCE, evidence_of, sample_of
from imil_backend.loop.dashboard.samples.sample_pictures import donor_of
from imil_backend.loop.projects.links import task_link
from imil_backend.loop.splitting.exclusion import EXPLAINED
from imil_backend.store.tables import Annotation, Dataset, Project, Round, Sample, Task, Version

SPLITS = ("validation", "test")
_COUNTS = {
    "latest": "that of the latest answer",
    "union": "what anybody painted",
    "intersection": "what everybody painted",
    "majority": "what more than half of the annotators painted",
}


@dataclass(frozen=True)
class AnswerLine:
    """What somebody answered."""

    id: int  # of the annotation, in the store
    by: str
    answer: str
    painted: bool
    seconds: float | None
    at: datetime
    note: str | None  # why it was set aside, or what of it was passed over


@dataclass(frozen=True)
class VersionLine:
    """What a version makes of the sample."""

    name: str
    round: int | None
    predicted: str | None  # None: it was not asked, or it was not kept
    probability: float | None  # of the label


@dataclass(frozen=True)
class Looked:
    """A picture of class evidence."""

    kind: str  # of `round_picture`
    when: str  # "Before" or "After" the round
    version: str
    label: str  # the class that it speaks for or against


@dataclass(frozen=True)
class Event:
    """An entry of the audit trail."""

    at: str
    event: str
    round: int | None
    version: str | None
    details: str
    by: str | None  # who has answered


@dataclass(frozen=True)
class SamplePage:
    """What the page of a sample shows."""

    dataset_id: int
    dataset: str
    key: str
    name: str
    label: str
    split: str
    group: str
    size: tuple[int, int]  # width, height
    excluded: str | None  # why it is used for nothing
    left_as: str | None  # why clinicians made it leave training
    answers: Sequence[AnswerLine]
    agreement: float | None  # the mean Dice between the masks of those who were asked; None with one of them
    painted: bool  # whether training knows something irrelevant in it
    several: bool  # whether several were painted
    counts: str  # which of them are in the mask, in words
    correction: str | None  # of the champion-to-be's recipe: what training makes of the mask
    exchanged: bool  # whether it is painted, and so is another sample, whose irrelevant part can be pasted in
    round: int | None  # whose two versions' evidence is shown
    looked: Sequence[Looked]  # for the label's class, and for another that was predicted
    versions: Sequence[VersionLine]
    history: Sequence[Event]
    tasks: Sequence[tuple[int, str]]  # number and address in Label Studio

    @property
    def given(self) -> Given:
        """How many answers are shown, those to gold tasks and what was skipped, too."""
        return Given(len(self.answers), sum(each.by == SIMULATED for each in self.answers))


def sample_page(backend: Backend, dataset_id: int, key: str, round_number: int | None = None) -> SamplePage:
    """Gather a sample.

    Args:
        backend: the store and the files.
        dataset_id: whose.
        key: of the sample.
        round_number: whose versions' evidence is shown; without it, the latest that has any.

    Raises:
        NotFoundError: there is no such dataset, sample or round.
    """
    with backend.store.begin() as session:
        dataset, sample = dataset_of(session, dataset_id), sample_of(session, dataset_id, key)
        names = names_of(backend, session, dataset_id)
        annotations = _annotations(session, sample)
        answers = [_answer(each, names) for each in annotations]
        state = sample_states(backend, session, dataset, sample.id).get(sample.id, SampleState(None, None))
        round_ = _round_shown(session, dataset_id, key, round_number)
        return SamplePage(
            dataset_id=dataset.id,
            dataset=dataset.name,
            key=sample.key,
            name=sample.name,
            label=sample.label,
            split=sample.split,
            group=sample.group,
            size=(sample.width, sample.height),
            excluded=EXPLAINED.get(sample.excluded, sample.excluded) if sample.excluded else None,
            left_as=WORDS[state.excluded_as] if state.excluded_as else None,
            answers=answers,
            agreement=sample.agreement,
            painted=state.mask_sha256 is not None,
            several=sum(each.painted for each in answers) > 1,
            counts=_counts(dataset, annotations),
            correction=_correction(session, dataset),
            exchanged=bool(state.mask_sha256 and donor_of(backend, session, dataset, sample)),
            round=round_.number if round_ else None,
            looked=_looked(session, dataset, sample, round_) if round_ else [],
            versions=_versions(session, dataset, sample),
            history=[_event(each, names) for each in history(session, dataset, sample)],
            tasks=_tasks(backend, session, sample),
        )


def _annotations(session: Session, sample: Sample) -> list[Annotation]:
    found = select(Annotation).where(Annotation.sample_id == sample.id, ~Annotation.deleted)
    return list(session.scalars(found.order_by(Annotation.label_studio_updated_at, Annotation.id)))


def _answer(annotation: Annotation, names: Names) -> AnswerLine:
    return AnswerLine(
        id=annotation.id,
        by=called(annotation, names),
        answer=in_words(annotation.answer, annotation.task.purpose),
        painted=annotation.mask_sha256 is not None,
        seconds=annotation.lead_time,
        at=annotation.label_studio_updated_at,
        note=annotation.reason,
    )


def _counts(dataset: Dataset, annotations: Sequence[Annotation]) -> str:
    answers = [CountedAnswer.of(annotation) for annotation in in_order(annotations)]
    reviewed = any(decides(each, answers) for each in answers)
    words = _COUNTS[policy_of(dataset).annotators]
    return f"{words}; a review stands for the answers up to its round" if reviewed else words


def _round_shown(session: Session, dataset_id: int, key: str, number: int | None) -> Round | None:
    """The round of this number, or the latest one, if both of its versions have evidence of the sample."""
    if number is not None:
        round_ = find_round(session, dataset_id, number)
        return round_ if evidence_of(session, round_, key) else None
    closed = select(Round).where(Round.dataset_id == dataset_id, Round.state == CLOSED)
    latest = session.scalars(closed.order_by(Round.number.desc()))
    return next((each for each in latest if evidence_of(session, each, key)), None)


def _looked(session: Session, dataset: Dataset, sample: Sample, round_: Round) -> list[Looked]:
    both, version = evidence_of(session, round_, sample.key), round_.version
    if both is None or version is None:
        return []
    names = (session.get_one(Version, version.parent_id).name, version.name)
    found = []
    for kind, (place, field) in EVIDENCE.items():
        predicted = dataset.classes[int(both[place].probabilities.argmax())]
        label = sample.label if field == "label" else predicted
        if field == "label" or predicted != sample.label:
            found.append(Looked(kind, ("Before", "After")[place], names[place], label))
    return found


def _correction(session: Session, dataset: Dataset) -> str | None:
    latest = select(Version).where(Version.dataset_id == dataset.id).order_by(Version.id.desc()).limit(1)
    version = session.scalar(latest)
    return str(version.recipe.get("correction", "blackout")) if version else None


def _versions(session: Session, dataset: Dataset, sample: Sample) -> list[VersionLine]:
    rounds = select(Round.version_id, Round.number).where(Round.dataset_id == dataset.id)
    numbers = {row.version_id: row.number for row in session.execute(rounds)}
    found = select(Version).where(Version.dataset_id == dataset.id).order_by(Version.id)
    lines = []
    for version in session.scalars(found):
        own = _probabilities(Path(version.directory), sample.key)
        lines.append(
            VersionLine(
                name=version.name,
                round=numbers.get(version.id),
                predicted=dataset.classes[max(range(len(own)), key=own.__getitem__)] if own else None,
                probability=own[dataset.classes.index(sample.label)] if own else None,
            )
        )
    return lines


def _probabilities(directory: Path, key: str) -> Sequence[float] | None:
    """Of each class; of a version of an earlier release, those of validation and test alone are known."""
    evidence = read_evidence(directory)
    if evidence is not None:
        found = evidence.sample(key)
        return None if found is None else [float(value) for value in found.probabilities]
    path = directory / PREDICTIONS_FILE
    return _predicted(path, path.stat().st_mtime_ns).get(key) if path.exists() else None


@lru_cache(maxsize=4)  # versions never change, and of a large dataset this takes a second to read
def _predicted(path: Path, _written: int) -> dict[str, list[float]]:
    predictions = read_json(path)
    pairs = ((predictions[split]["keys"], predictions[split]["probabilities"]) for split in SPLITS)
    return {key: values for keys, rows in pairs for key, values in zip(keys, rows, strict=True)}


def _event(entry: dict[str, Any], names: Names) -> Event:
    columns = {"at", "event", "round", "version"}
    details = with_names({name: value for name, value in entry.items() if name not in columns}, names)
    by = details.pop("by", None)
    details.pop("mask_sha256", None)
    if "answer" in details:
        details["answer"] = WORDS.get(details["answer"], details["answer"])
    if "changed_there" in details:
        details["changed in Label Studio"] = _moment(details.pop("changed_there"))
    told = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in details.items())
    return Event(_moment(entry["at"]), entry["event"], entry["round"], entry["version"], told, by)


def _moment(iso: str) -> str:
    return f"{datetime.fromisoformat(iso).astimezone(timezone.utc):%Y-%m-%d %H:%M:%S}"


def _tasks(backend: Backend, session: Session, sample: Sample) -> list[tuple[int, str]]:
    found = (
        select(Project, Task.label_studio_id)
        .join(Task, Task.project_id == Project.id)
        .where(Task.sample_id == sample.id, ~Task.deleted)
        .order_by(Task.id)
    )
    return [(task, task_link(backend, project, task)) for project, task in session.execute(found)]
