"""What annotators are called on pages: by a letter or, where the settings say so, by name.

Names stand on pages that a password opens, and in no file.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from functools import lru_cache

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.errors import ImilError
from imil_backend.loop.answers.pseudonyms import SIMULATED, Names, pseudonyms
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.dashboard.keeping import Kept, answers_stamp
from imil_backend.store.tables import Annotation, Annotator, Project

logger = logging.getLogger(__name__)

_SECONDS_KNOWN = 600.0


def names_of(backend: Backend, session: Session, dataset_id: int) -> Names:
    """A dataset's annotators, as the settings say; by a letter whom Label Studio does not name."""
    names = _kept.get(answers_stamp(session, dataset_id), lambda: pseudonyms(session, dataset_id))
    if not backend.settings.dashboard_names:
        return names
    known = _known(backend, int(time.monotonic() // _SECONDS_KNOWN))
    users = {each.key: each.label_studio_id for each in session.scalars(select(Annotator))}
    return {key: known.get(users.get(key or 0, 0)) or name for key, name in names.items()}


_kept = Kept[Names]()


@lru_cache(maxsize=1)  # no page waits for Label Studio again soon, whether it answered or not
def _known(backend: Backend, _period: int) -> Mapping[int, str]:
    try:
        return backend.label_studio.people()
    except ImilError as error:
        logger.warning("Label Studio does not tell the names of annotators: %s", error)
        return {}


def who_answered(session: Session, dataset_id: int, names: Names) -> tuple[str, ...]:
    """What pages call those who have answered: people, then the simulated clinician, whoever ran it."""
    stamp = answers_stamp(session, dataset_id)
    both = _who.get(stamp, lambda: frozenset(_kinds(session, dataset_id)))
    people = [name for key, name in names.items() if (key, False) in both]
    simulated = [SIMULATED] if any(by_program for _, by_program in both) else []
    return tuple(dict.fromkeys([*people, *simulated]))


_who = Kept[frozenset[tuple[int | None, bool]]]()


def _kinds(session: Session, dataset_id: int) -> Iterator[tuple[int | None, bool]]:
    """Each annotator's key with whether the simulated clinician answered in that name."""
    found = (
        select(Annotation.annotator, Annotation.simulated)
        .join(Project, Project.id == Annotation.project_id)
        .where(Project.dataset_id == dataset_id, ~Annotation.deleted)
        .distinct()
    )
    return ((annotator, simulated) for annotator, simulated in session.execute(found))
