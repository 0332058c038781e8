"""What an erasure will do, found out before it does anything, and kept in the database until it is done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.learning.contract.training_job import SAMPLES_FILE, read_samples
from imil_backend.loop.answers.sample_states import sample_states
from imil_backend.loop.base import audit
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.erasure.names import Cells, cells_of, words_of
from imil_backend.loop.erasure.subject import Subject
from imil_backend.store.tables import (
    Annotation,
    AuditEntry,
    Dataset,
    Project,
    Proposal,
    Sample,
    Task,
    Version,
)


@dataclass(frozen=True)
class Plan:
    """What is left to do of an erasure. As JSON in the database; all of it may be done twice.

    Attributes:
        keys: of the samples.
        words: by which they are told in files: keys, names, paths, hashes, groups.
        cells: by which tables tell of them, see `names.cells_of`; one alone may be a number or a short word.
        files: of the data directory, relative to it: images, and masks that came with them.
        masks: hashes of masks that nothing else refers to.
        rounds: ids, whose reports may show them.
        projects: ids, in which they may be tasks.
        swept: whether everything is done but in Label Studio.
    """

    keys: tuple[str, ...]
    words: tuple[str, ...]
    files: tuple[str, ...]
    masks: tuple[str, ...]
    rounds: tuple[int, ...]
    projects: tuple[int, ...]
    swept: bool = False
    cells: tuple[Cells, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def plan_from_json(raw: dict[str, Any]) -> Plan:
    """The inverse of `Plan.to_json`."""
    return Plan(**{name: _as_tuple(value) for name, value in raw.items()})


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


@dataclass(frozen=True)
class Findings:
    """What people have to know of an erasure.

    Attributes:
        samples: key, name and dataset of each.
        copies: how many were not asked for, and have the same pixels.
        elsewhere: other datasets in which the group occurs; they are not touched.
        trained: versions that were trained on them.
        measured: versions that were only measured on them.
        outside: files and tasks that are the team's own, which are not touched.
        backups: where backups were written that hold them, with the time; they may have been moved since.
        ambiguous: what they are called and a class is, too; it is not looked for by itself.
    """

    samples: tuple[dict[str, str], ...]
    copies: int
    elsewhere: tuple[str, ...]
    trained: tuple[str, ...]
    measured: tuple[str, ...]
    outside: tuple[str, ...]
    backups: tuple[str, ...]
    ambiguous: tuple[str, ...]


def make_plan(backend: Backend, session: Session, subject: Subject) -> tuple[Plan, Findings]:
    """Find everything that is known of some samples. Changes nothing."""
    samples = subject.samples
    ids, keys = [each.id for each in samples], tuple(each.key for each in samples)
    datasets = sorted({each.dataset_id for each in samples})
    inside, outside = _files(backend, samples)
    masks = _masks(backend, session, samples) - _other_masks(backend, session, set(ids), set(keys))
    used = _kept_files(session, ids)
    names = {each.id: each for each in session.scalars(select(Dataset).where(Dataset.id.in_(datasets)))}
    classes = {label.casefold() for each in names.values() for label in each.classes}
    cells = cells_of(session, subject, backend.directory)
    ambiguous = tuple(each for each in cells if len(each) == 1 and each[0].casefold() in classes)
    plan = Plan(
        keys=keys,
        words=words_of(session, subject, masks),
        cells=tuple(each for each in cells if each not in ambiguous),
        files=tuple(str(path.relative_to(backend.directory)) for path in inside if str(path) not in used),
        masks=tuple(sorted(masks)),
        rounds=tuple(session.scalars(select(Task.round_id).where(Task.sample_id.in_(ids)).distinct())),
        projects=tuple(session.scalars(select(Project.id).where(Project.dataset_id.in_(datasets)))),
    )
    trained, measured = _versions(session, set(keys))
    findings = Findings(
        samples=tuple(
            {"key": each.key, "name": each.name, "dataset": names[each.dataset_id].name} for each in samples
        ),
        copies=subject.copies,
        elsewhere=subject.elsewhere,
        trained=trained,
        measured=measured,
        outside=(*map(str, outside), *_source_tasks(names, samples)),
        backups=audit.backups_since(session, min(each.imported_at for each in samples)),
        ambiguous=tuple(name for (name,) in ambiguous),
    )
    return plan, findings


def _files(backend: Backend, samples: Iterable[Sample]) -> tuple[list[Path], list[Path]]:
    """Images and the masks that came with them: those in the data directory, and the team's own."""
    named = {Path(path) for each in samples for path in (each.path, each.clinician_mask) if path}
    inside = sorted(path for path in named if path.is_relative_to(backend.directory))
    return inside, sorted(named - set(inside))


def _kept_files(session: Session, ids: Sequence[int]) -> set[str]:
    """Files that other samples have."""
    others = select(Sample.path, Sample.clinician_mask).where(Sample.id.not_in(ids))
    return {path for row in session.execute(others) for path in row if path}


def _masks(backend: Backend, session: Session, samples: Sequence[Sample]) -> set[str]:
    """Hashes of all masks that were ever made of the samples."""
    ids, keys = [each.id for each in samples], {each.key for each in samples}
    of_answers = select(Annotation.mask_sha256).where(Annotation.sample_id.in_(ids))
    told = select(AuditEntry.details["mask_sha256"].as_string()).where(AuditEntry.sample_id.in_(ids))
    proposed = select(Proposal.mask_sha256).join(Task, Task.id == Proposal.task_id)
    of_tasks = proposed.where(Task.sample_id.in_(ids))
    found = {*session.scalars(of_answers), *session.scalars(told), *session.scalars(of_tasks)}
    for dataset_id in {each.dataset_id for each in samples}:
        states = sample_states(backend, session, session.get_one(Dataset, dataset_id))
        found |= {state.mask_sha256 for sample_id, state in states.items() if sample_id in ids}
    for _, trained_on in _training_samples(backend):
        found |= {each.mask_sha256 for each in trained_on if each.key in keys}
    return {sha256 for sha256 in found if sha256}


def _other_masks(backend: Backend, session: Session, ids: set[int], keys: set[str]) -> set[str | None]:
    """Hashes of masks that other samples have: two that were painted alike are one file."""
    of_answers = select(Annotation.mask_sha256).where(Annotation.sample_id.not_in(ids))
    told = select(AuditEntry.details["mask_sha256"].as_string()).where(AuditEntry.sample_id.not_in(ids))
    proposed = select(Proposal.mask_sha256).join(Task, Task.id == Proposal.task_id)
    of_tasks = proposed.where(Task.sample_id.not_in(ids))
    found = {*session.scalars(of_answers), *session.scalars(told), *session.scalars(of_tasks)}
    for _, trained_on in _training_samples(backend):
        found |= {each.mask_sha256 for each in trained_on if each.key not in keys}
    return found


def _training_samples(backend: Backend) -> Iterable[tuple[Path, list[Any]]]:
    for directory in sorted((backend.directory / "versions").glob("*/")):
        if (directory / SAMPLES_FILE).exists():
            yield directory, read_samples(directory)


def _versions(session: Session, keys: set[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    trained, measured = [], []
    for version in session.scalars(select(Version).order_by(Version.id)):
        directory = Path(version.directory)
        if not (directory / SAMPLES_FILE).exists():
            continue
        splits = {each.split for each in read_samples(directory) if each.key in keys}
        if "train" in splits:
            trained.append(version.name)
        elif splits:
            measured.append(version.name)
    return tuple(trained), tuple(measured)


def _source_tasks(datasets: dict[int, Dataset], samples: Iterable[Sample]) -> list[str]:
    """The tasks of classification projects that the samples were imported from."""
    return [
        f"{source.source_instance}/projects/{source.source_project}/data?task={each.source_task}"
        for each in samples
        if each.source_task is not None and (source := datasets[each.dataset_id]).source_instance
    ]
