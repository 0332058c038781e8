"""Who answered: a random key, and one table that says whom it stands for."""

from __future__ import annotations

import secrets

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from imil_backend.store.tables import Annotation, Annotator

_SMALLEST, _KEYS = 100_000_000, 900_000_000  # nine digits, which no user's id in Label Studio has


def annotator_key(session: Session, instance: str, annotation: Annotation, user: int | None) -> int | None:
    """The key of who has made an annotation.

    An annotation keeps the key of a person who was forgotten, however often it is read again.

    Args:
        session: of the store.
        instance: Label Studio's address.
        annotation: as it was read last; new ones have no annotator yet.
        user: the person's id in Label Studio.
    """
    if annotation.annotator is not None and session.get(Annotator, annotation.annotator) is None:
        return annotation.annotator
    if user is None:
        return None
    known = select(Annotator.key).where(Annotator.instance == instance, Annotator.label_studio_id == user)
    return session.scalar(known) or _new_key(session, instance, user) or session.scalar(known)


def _new_key(session: Session, instance: str, user: int) -> int | None:
    """A new one; None where another process has just made one."""
    key = _SMALLEST + secrets.randbelow(_KEYS)
    try:
        with session.begin_nested():
            session.add(Annotator(key=key, instance=instance, label_studio_id=user))
    except IntegrityError:
        return None
    return key
