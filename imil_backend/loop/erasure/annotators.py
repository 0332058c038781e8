"""Forgets whom an annotator's key stands for; the answers stay, under the key."""

from __future__ import annotations

from sqlalchemy import select

from imil_backend.errors import NotFoundError
from imil_backend.files import write_atomically
from imil_backend.loop.base import audit
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.erasure.erasing import Outcome, finish_erasures
from imil_backend.store.tables import Annotation, Annotator, AuditEntry, Erasure, Sample

_AT_ONCE = 1000  # entries of the audit trail


def find_annotator(backend: Backend, user: str) -> Annotator:
    """An annotator, by the number or the e-mail address in Label Studio.

    Raises:
        NotFoundError: nobody of this number has answered.
        LabelStudioError: it cannot be asked for the address.
    """
    number = user
    if not user.isdecimal():
        people = {address.lower(): key for key, address in backend.label_studio.people().items()}
        number = str(people.get(user.lower(), ""))
    here = backend.settings.label_studio_url
    with backend.store.begin() as session:
        found = session.scalar(
            select(Annotator).where(
                Annotator.instance == here, Annotator.label_studio_id == int(number or -1)
            )
        )
    if found is None:
        raise NotFoundError(
            f"No answer is known of user {user!r} of {here}. Give the user's number or e-mail address there; "
            "somebody who was forgotten already has neither."
        )
    return found


def answers_of(backend: Backend, annotator: Annotator) -> dict[int, int]:
    """How many answers somebody has given, by dataset."""
    with backend.store.begin() as session:
        rows = session.scalars(
            select(Sample.dataset_id).join(Annotation).where(Annotation.annotator == annotator.key)
        ).all()
    return {dataset_id: rows.count(dataset_id) for dataset_id in sorted(set(rows))}


def backups_with(backend: Backend, annotator: Annotator) -> tuple[str, ...]:
    """Where backups were written that say whom a key stands for; they may have been moved since."""
    answers = select(AuditEntry).where(AuditEntry.event == audit.ANSWERED).order_by(AuditEntry.id)
    with backend.store.begin() as session:
        # Of whom an entry tells that an erasure has blanked, nobody knows: it may be this one's first answer.
        of_theirs = (
            each.at
            for each in session.scalars(answers.execution_options(yield_per=_AT_ONCE))
            if not each.details or each.details.get("annotator") == annotator.key
        )
        return audit.backups_since(session, next(of_theirs, None))


def forget_annotator(backend: Backend, annotator: Annotator, by: str, reason: str) -> Outcome:
    """Delete the row that says whom a key stands for, and copies of the database that have it.

    Args:
        backend: the store and the reports.
        annotator: who is forgotten.
        by: who does it, for the audit trail.
        reason: for the audit trail.
    """
    _rename_in_reports(backend, annotator)
    datasets = answers_of(backend, annotator)
    with backend.store.begin() as session:
        session.delete(session.get_one(Annotator, annotator.key))
        session.add(Erasure(plan={}))  # copies go and the database is tidied, also if this process is killed
        for dataset_id in datasets:
            audit.note(session, dataset_id, audit.ERASED, by=by, reason=reason, what="annotator")
    return finish_erasures(backend)[-1]


def _rename_in_reports(backend: Backend, annotator: Annotator) -> None:
    """Reports of earlier releases have the number in Label Studio where later ones have the key."""
    before, after = f"annotator {annotator.label_studio_id}:", f"annotator {annotator.key}:"
    for path in (backend.directory / "versions").glob("*/report/report.md"):
        text = path.read_text(encoding="utf-8")
        if before in text:
            write_atomically(path, text.replace(before, after).encode())
