"""The rows of samples: deleted in one transaction, which leaves behind the plan of all else that is to go."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from imil_backend.loop.base import audit
from imil_backend.loop.erasure.plan import Findings, Plan
from imil_backend.loop.erasure.words import told_in_text
from imil_backend.store.tables import (
    Annotation,
    AuditEntry,
    Erasure,
    FetchedImage,
    Proposal,
    Round,
    Sample,
    SetAside,
    Task,
)

_NAMED = "What went wrong named something that was erased."


def erase_rows(
    session: Session, samples: Sequence[Sample], plan: Plan, findings: Findings, by: str, reason: str
) -> Erasure:
    """Delete everything that the database knows of some samples; the audit trail tells that, and not of whom.

    Args:
        session: of the store; all of it is one transaction.
        samples: whose rows.
        plan: of the rest of the erasure, which is kept until it is done.
        findings: of the same samples.
        by: who erases.
        reason: that is noted.
    """
    ids = [each.id for each in samples]
    erasure = Erasure(plan=plan.to_json())
    session.add(erasure)
    session.flush()  # only while it is there the database lets entries be blanked
    blank = update(AuditEntry).where(AuditEntry.sample_id.in_(ids)).values(sample_id=None, details={})
    session.execute(blank, execution_options={"synchronize_session": False})
    tasks = select(Task.id).where(Task.sample_id.in_(ids))
    session.execute(delete(Proposal).where(Proposal.task_id.in_(tasks)))
    session.execute(delete(Annotation).where(Annotation.sample_id.in_(ids)))
    session.execute(delete(Task).where(Task.sample_id.in_(ids)))
    _forget_what_was_said(session, {each.dataset_id for each in samples}, plan)
    _forget_fetched(session, samples)
    session.execute(delete(Sample).where(Sample.id.in_(ids)))
    for dataset_id in sorted({each.dataset_id for each in samples}):
        audit.note(
            session,
            dataset_id,
            audit.ERASED,
            by=by,
            reason=reason,
            what="samples",
            count=sum(each.dataset_id == dataset_id for each in samples),
            trained=list(findings.trained),
        )
    return erasure


def _forget_what_was_said(session: Session, datasets: set[int], plan: Plan) -> None:
    """Reasons and errors that name one of the samples."""
    told = told_in_text(plan)
    for row in session.scalars(select(SetAside).where(SetAside.dataset_id.in_(datasets))):
        if told(row.reference) or told(row.reason):
            session.delete(row)
    failed = select(Round).where(Round.dataset_id.in_(datasets), Round.error.is_not(None))
    for round_ in session.scalars(failed):
        if told(round_.error or ""):
            round_.error = _NAMED


def _forget_fetched(session: Session, samples: Sequence[Sample]) -> None:
    contents = {each.sha256 for each in samples}
    session.execute(delete(FetchedImage).where(FetchedImage.sha256.in_(contents)))
