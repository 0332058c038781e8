"""What annotators are called on pages: by a letter or, where the settings say so, by name."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from functools import lru_cache

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.errors import ImilError
from imil_backend.loop.answers.pseudonyms import Names, pseudonyms
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.dashboard.keeping import Kept, answers_stamp
from imil_backend.store.tables import Annotator

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
