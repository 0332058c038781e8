from __future__ import annotations

import pytest
from loop_fakes import make_version
from sqlalchemy.orm import Session

from imil_backend.errors import NotFoundError, RoundError
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.versions.champions import champion_of, find_version, promote, roll_back
from imil_backend.store.tables import Dataset


def test_rolling_back_goes_from_champion_to_the_one_before_until_there_is_none(
    backend: Backend, dataset: Dataset, session: Session
) -> None:
    first, second, third = (make_version(backend, dataset, name) for name in "ABC")
    for expected in (second, first):
        assert roll_back(session, dataset).id == expected.id
        champion = champion_of(session, dataset.id)
        assert champion is not None
        assert champion.id == expected.id
    with pytest.raises(RoundError, match="no previous champion"):
        roll_back(session, dataset)
    promote(session, third, "person")
    assert roll_back(session, dataset).id == first.id


def test_promoting_the_champion_again_changes_nothing(
    backend: Backend, dataset: Dataset, session: Session
) -> None:
    version = make_version(backend, dataset)
    assert not promote(session, version, "person")
    with pytest.raises(NotFoundError, match="'absent'"):
        find_version(session, "absent")
