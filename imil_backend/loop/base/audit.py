"""The audit trail: who painted what and when, which version asked for it, which versions trained on it.

Entries are written in the transaction of what they tell of, so that neither is ever there without the other.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from imil_backend.errors import NotFoundError
from imil_backend.loop.base.states import Purpose
from imil_backend.store.tables import Annotation, AuditEntry, Dataset, Round, Sample, Task, Version

ASKED = "asked"  # the sample was pushed as a task; the version is the one whose misprediction it is
ANSWERED = "answered"  # an annotation was made or changed
WITHDRAWN = "withdrawn"  # an annotation no longer stands: deleted, a draft again, its task or project gone
GOLD = "gold"  # an answer was named as what those of gold tasks are compared with, or no longer is
TRAINED = "trained"  # a version was trained with the sample blacked out
LEFT_OUT = "left out"  # an import found that the sample is not to be trained or measured on
WEIGHTS_REMOVED = "weights removed"  # of a version, to free disk space
FILES_REMOVED = "files removed"  # others, to free disk space
PROMOTED = "promoted"
REJECTED = "rejected"  # by a person: an undecided verdict, and the champion stays
ROLLED_BACK = "rolled back"
CANCELLED = "cancelled"
BACKED_UP = "backed up"
ERASED = "erased"  # what was known of samples or of an annotator; not told of whom
PROPOSALS = "proposals"  # proposed masks were switched off or on in Label Studio
READERS = "readers"  # Label Studio was told how many people are to answer each task of a round
WEBHOOK_REPAIRED = "webhook repaired"
PROJECT_GONE = "project gone"
PROJECT_BACK = "project back"
_OF_SAMPLES = (ASKED, ANSWERED, WITHDRAWN, GOLD, TRAINED, LEFT_OUT)  # without one where it was erased


def note(
    session: Session,
    dataset_id: int,
    event: str,
    *,
    sample_id: int | None = None,
    version_id: int | None = None,
    round_id: int | None = None,
    **details: Any,
) -> None:
    """Add an entry; details that are None are left out."""
    session.add(
        AuditEntry(
            dataset_id=dataset_id,
            event=event,
            sample_id=sample_id,
            version_id=version_id,
            round_id=round_id,
            details={name: value for name, value in details.items() if value is not None},
        )
    )


def note_asked(session: Session, task: Task) -> None:
    """Record that a sample was pushed as a task."""
    round_ = session.get_one(Round, task.round_id)
    note(
        session,
        round_.dataset_id,
        ASKED,
        sample_id=task.sample_id,
        version_id=round_.mined_version_id,
        round_id=round_.id,
        task=task.label_studio_id,
        purpose=purpose_of(task),
    )


def note_answer(session: Session, event: str, annotation: Annotation) -> None:
    """Record that an annotation was made or changed (ANSWERED), or no longer counts (WITHDRAWN)."""
    task = session.get_one(Task, annotation.task_id)
    round_ = session.get_one(Round, task.round_id)
    answered = event == ANSWERED
    note(
        session,
        round_.dataset_id,
        event,
        sample_id=annotation.sample_id,
        version_id=round_.mined_version_id,
        round_id=round_.id,
        annotation=annotation.label_studio_id,
        annotator=annotation.annotator,
        changed_there=annotation.label_studio_updated_at.isoformat() if answered else None,
        answer=annotation.answer if answered else None,
        mask_sha256=annotation.mask_sha256 if answered else None,
        proposal=annotation.outcome if answered else None,
        purpose=purpose_of(task),
        simulated=annotation.simulated,
        reason=annotation.reason if answered else None,
    )


def purpose_of(task: Task) -> str | None:
    """What a task is for, where it is no ordinary one."""
    return None if task.purpose == Purpose.ASKED.value else task.purpose


def find_sample(session: Session, dataset: Dataset, key_or_name: str) -> Sample:
    """The sample of this key, or of this name in its source.

    Raises:
        NotFoundError: the dataset has none.
    """
    sample = session.scalar(
        select(Sample).where(
            Sample.dataset_id == dataset.id, or_(Sample.key == key_or_name, Sample.name == key_or_name)
        )
    )
    if sample is None:
        raise NotFoundError(
            f"Dataset {dataset.name!r} has no sample with the key or name {key_or_name!r}. "
            "`imil mispredictions --all --json` shows keys and names."
        )
    return sample


def history(session: Session, dataset: Dataset, sample: Sample | None = None) -> list[dict[str, Any]]:
    """A sample's history, the oldest entry first; without a sample, the dataset's."""
    entries = (
        select(AuditEntry, Version.name, Round.number)
        .outerjoin(Version, Version.id == AuditEntry.version_id)
        .outerjoin(Round, Round.id == AuditEntry.round_id)
        .where(AuditEntry.dataset_id == dataset.id)
        .where(AuditEntry.sample_id == (sample.id if sample else None))
        .order_by(AuditEntry.id)
    )
    if sample is None:
        entries = entries.where(AuditEntry.event.not_in(_OF_SAMPLES))
    return [
        {
            "at": entry.at.isoformat(),
            "event": entry.event,
            "version": version,
            "round": number,
            **entry.details,
        }
        for entry, version, number in session.execute(entries)
    ]


def latest(session: Session, dataset_id: int, event: str) -> AuditEntry | None:
    """The latest entry of a kind."""
    found = select(AuditEntry).where(AuditEntry.dataset_id == dataset_id, AuditEntry.event == event)
    return session.scalar(found.order_by(AuditEntry.id.desc()).limit(1))


def backups_since(session: Session, first: datetime | None) -> tuple[str, ...]:
    """Where backups were written, with the time; without a first moment, all of them."""
    noted = select(AuditEntry).where(AuditEntry.event == BACKED_UP).order_by(AuditEntry.id)
    if first is not None:
        noted = noted.where(AuditEntry.at >= first)
    made = session.scalars(noted)
    return tuple(dict.fromkeys(f"{each.details['file']} ({each.at:%Y-%m-%d %H:%M} UTC)" for each in made))
