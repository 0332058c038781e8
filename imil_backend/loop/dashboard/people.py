"""What annotators are called on pages: by a letter, which says who answered the same and not who that is.

Where the settings say so, by what Label Studio calls them, on pages that a password opens and in no file.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from functools import lru_cache

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from imil_backend.errors import ImilError
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.dashboard.keeping import Kept, answers_stamp
from imil_backend.store.tables import Annotation, Annotator, Project

logger = logging.getLogger(__name__)

_SECONDS_KNOWN = 600.0
SIMULATED = "simulated clinician"
Names = Mapping[int | None, str]  # by the annotator's key; who answered first comes first


def names_of(backend: Backend, session: Session, dataset_id: int) -> Names:
    """A dataset's annotators, as the settings say; by a letter whom Label Studio does not name."""
    names = pseudonyms(session, dataset_id)
    if not backend.settings.dashboard_names:
        return names
    known = _known(backend, int(time.monotonic() // _SECONDS_KNOWN))
    users = {each.key: each.label_studio_id for each in session.scalars(select(Annotator))}
    return {key: known.get(users.get(key or 0, 0)) or name for key, name in names.items()}


@lru_cache(maxsize=1)  # no page waits for Label Studio again soon, whether it answered or not
def _known(backend: Backend, _period: int) -> Mapping[int, str]:
    try:
        return backend.label_studio.people()
    except ImilError as error:
        logger.warning("Label Studio does not tell the names of annotators: %s", error)
        return {}


def pseudonyms(session: Session, dataset_id: int) -> Names:
    """A dataset's annotators: A is who answered first. They stay the same as others come."""
    return _kept.get(answers_stamp(session, dataset_id), lambda: _lettered(session, dataset_id))


_kept = Kept[Names]()


def _lettered(session: Session, dataset_id: int) -> Names:
    first = (
        select(Annotation.annotator, func.min(Annotation.id))
        .join(Project, Project.id == Annotation.project_id)
        .where(Project.dataset_id == dataset_id)
        .group_by(Annotation.annotator)
        .order_by(func.min(Annotation.id))
    )
    return {
        annotator: f"annotator {_letters(number)}"
        for number, (annotator, _) in enumerate(session.execute(first))
    }


def called(annotation: Annotation, names: Names) -> str:
    """Who has made an annotation; the simulated clinician is never taken for a person."""
    return SIMULATED if annotation.simulated else names[annotation.annotator]


def _letters(number: int) -> str:
    """0 is A, 25 is Z, 26 is AA."""
    before, last = divmod(number, 26)
    return (_letters(before - 1) if before else "") + chr(ord("A") + last)
