"""The champion: the version in use. Promotion, rollback, and the decision to keep it."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from imil_backend.errors import NotFoundError, RoundError
from imil_backend.loop.base import audit
from imil_backend.loop.versions.removed_weights import check_weights_kept
from imil_backend.store.database import lock_row
from imil_backend.store.tables import AuditEntry, Dataset, Promotion, Round, Version

UNDECIDED = "undecided"  # a verdict that leaves the choice to a person
LOOP, PERSON, ROLLBACK = "loop", "person", "rollback"  # by whom a version is promoted


def champion_of(session: Session, dataset_id: int) -> Version | None:
    """The version promoted last, or None before the baseline."""
    promotion = session.scalar(
        select(Promotion).where(Promotion.dataset_id == dataset_id).order_by(Promotion.id.desc()).limit(1)
    )
    return promotion.version if promotion else None


def required_champion(session: Session, dataset: Dataset) -> Version:
    """The champion.

    Raises:
        RoundError: there is none yet.
    """
    champion = champion_of(session, dataset.id)
    if champion is None:
        raise RoundError(f"Dataset {dataset.name!r} has no trained version yet. Train one: `imil train`.")
    return champion


def promote(session: Session, version: Version, by: str, reason: str = "", who: str | None = None) -> bool:
    """Make a version its dataset's champion; False if it is already.

    Args:
        session: of the store.
        version: which.
        by: LOOP, PERSON or ROLLBACK.
        reason: kept with the promotion and in the audit trail.
        who: the person's user name, for the audit trail.

    Raises:
        StoreError: its weights were removed.
    """
    lock_row(session, session.get_one(Dataset, version.dataset_id))  # nobody removes its weights meanwhile
    check_weights_kept(session, version)
    champion = champion_of(session, version.dataset_id)
    if champion is not None and champion.id == version.id:
        return False
    session.add(Promotion(dataset_id=version.dataset_id, version_id=version.id, by=by, reason=reason))
    session.flush()
    event = audit.ROLLED_BACK if by == ROLLBACK else audit.PROMOTED
    audit.note(session, version.dataset_id, event, version_id=version.id, by=who or by, reason=reason or None)
    return True


def reject(session: Session, version: Version, who: str, reason: str = "") -> bool:
    """Decide that the champion stays where a verdict is undecided; False if that is decided already.

    The version can still be promoted later.

    Args:
        session: of the store.
        version: the candidate.
        who: the person's user name, for the audit trail.
        reason: for the audit trail.

    Raises:
        RoundError: its verdict is not undecided, or it is the champion.
    """
    lock_row(session, session.get_one(Dataset, version.dataset_id))
    verdict = session.scalar(select(Round.verdict).where(Round.version_id == version.id)) or {}
    if verdict.get("verdict") != UNDECIDED:
        raise RoundError(
            f"There is nothing to decide about {version.name}: its verdict is not undecided "
            f"({verdict.get('verdict', 'it has none')})."
        )
    champion = champion_of(session, version.dataset_id)
    if champion is not None and champion.id == version.id:
        raise RoundError(f"{version.name} is the champion. `imil rollback` makes the previous one it again.")
    if version.id in rejected_versions(session, version.dataset_id):
        return False
    audit.note(
        session, version.dataset_id, audit.REJECTED, version_id=version.id, by=who, reason=reason or None
    )
    return True


def rejected_versions(session: Session, dataset_id: int) -> set[int | None]:
    """Ids of the versions that a person has decided against, whose verdict was undecided."""
    rejected = select(AuditEntry.version_id).where(
        AuditEntry.dataset_id == dataset_id, AuditEntry.event == audit.REJECTED
    )
    return set(session.scalars(rejected))


def judged_until(session: Session, version: Version) -> int:
    """How many versions the validation split had judged when it had judged this one."""
    earlier = select(func.count()).where(Version.dataset_id == version.dataset_id, Version.id <= version.id)
    return session.scalar(earlier) or 0


def find_version(session: Session, name: str) -> Version:
    """The version of this name.

    Raises:
        NotFoundError: there is none.
    """
    version = session.scalar(select(Version).where(Version.name == name))
    if version is None:
        raise NotFoundError(f"There is no version {name!r}. `imil models` lists them.")
    return version


def roll_back(session: Session, dataset: Dataset, who: str | None = None) -> Version:
    """Make the previous champion the champion again.

    Raises:
        RoundError: there was none before.
        StoreError: its weights were removed.
    """
    standing: list[int] = []  # the champions, as rollbacks left them
    history = select(Promotion).where(Promotion.dataset_id == dataset.id).order_by(Promotion.id)
    for promotion in session.scalars(history):
        if promotion.by == ROLLBACK:
            standing.pop()
        else:
            standing.append(promotion.version_id)
    if len(standing) < 2:
        raise RoundError(
            f"Dataset {dataset.name!r} has no previous champion. `imil promote VERSION` makes any "
            "version the champion."
        )
    version = session.get_one(Version, standing[-2])
    promote(session, version, ROLLBACK, "rolled back", who)
    return version
