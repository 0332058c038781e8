"""Why no masks are proposed, for whoever leads the work."""

from __future__ import annotations

import logging
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.errors import LearningError
from imil_backend.files import write_atomically
from imil_backend.learning.contract.proposed import FEWEST_GROUPS, PROPOSED_FILE, read_proposed
from imil_backend.loop.base.backend import Backend, project_of
from imil_backend.loop.base.policy import policy_of
from imil_backend.loop.projects.connection import takes_predictions
from imil_backend.loop.proposals.painted import painted_groups
from imil_backend.store.tables import Dataset, Proposal, Round, Task, Version

PROPOSING = "proposing"  # folder of the data directory, with one for each process that proposes masks

logger = logging.getLogger(__name__)


def why_nothing_is_proposed(backend: Backend, session: Session, dataset: Dataset) -> str | None:
    """Why no mask is proposed in a dataset's latest round; None where some are, or nothing is asked.

    Whether the project has a brush at all is not looked at: Label Studio would have to be asked.
    """
    project = project_of(session, dataset.id)
    latest = session.scalar(
        select(Round).where(Round.dataset_id == dataset.id).order_by(Round.number.desc()).limit(1)
    )
    if project is None or latest is None or latest.is_baseline:
        return None
    if not policy_of(dataset).proposals:
        return "No masks are proposed: they are switched off (`imil push --proposals` shows them)."
    if not takes_predictions(project):
        return "No masks are proposed: the project was connected without --predictions."
    proposed = select(Proposal.id).join(Task, Task.id == Proposal.task_id).where(Task.round_id == latest.id)
    if session.scalar(proposed.limit(1)) is not None:
        return None
    if (groups := painted_groups(session, dataset.id)) < FEWEST_GROUPS:
        return (
            f"No masks are proposed yet: images of {groups} groups (patients) are painted, and at least "
            f"{FEWEST_GROUPS} are needed."
        )
    return _told(backend, session, dataset) or (
        "No masks are proposed yet: the worker has not learned them, or none was certain enough."
    )


def note_reason(backend: Backend, dataset_id: int, path: Path) -> None:
    """Keep why mask networks that have just learned propose nothing, if they do not.

    Args:
        backend: where it is kept.
        dataset_id: whose.
        path: of what the networks propose.
    """
    kept = _kept(backend, dataset_id)
    try:
        _, proposed = read_proposed(path)
    except LearningError as error:
        logger.warning("It is not known why no masks are proposed: %s", error)
        return
    if proposed.usable:
        kept.unlink(missing_ok=True)
    else:
        write_atomically(kept, proposed.reason.encode())


def _told(backend: Backend, session: Session, dataset: Dataset) -> str | None:
    """What the mask networks said that have learned last, in the open round or with the latest version."""
    versions = select(Version).where(Version.dataset_id == dataset.id).order_by(Version.id.desc()).limit(1)
    version = session.scalar(versions)
    of_version = Path(version.directory) / PROPOSED_FILE if version else None
    kept = _kept(backend, dataset.id)
    there = [path for path in (kept, of_version) if path is not None and path.exists()]
    if not there:
        return None
    latest = max(there, key=lambda path: path.stat().st_mtime)
    if latest == kept:
        return kept.read_text(encoding="utf-8")
    try:
        _, proposed = read_proposed(latest)
    except LearningError as error:
        return f"No masks are proposed: {error}"
    return None if proposed.usable else proposed.reason


def _kept(backend: Backend, dataset_id: int) -> Path:
    return backend.path(PROPOSING, f"reason-{dataset_id}.txt")
