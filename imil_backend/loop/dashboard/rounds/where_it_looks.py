"""The page of reasons: where the versions of a round looked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select

from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.states import CLOSED
from imil_backend.loop.dashboard.datasets import dataset_of
from imil_backend.loop.dashboard.given_answers import Given, given
from imil_backend.loop.evaluation.kept import folder_of
from imil_backend.loop.evaluation.reasons import Reasons, kept_reasons
from imil_backend.store.tables import Round


@dataclass(frozen=True)
class ReasonsPage:
    """What the page of reasons shows."""

    dataset_id: int
    dataset: str
    round: int | None  # that is shown; None: there is none
    reasons: Reasons | None
    painted: Given  # the painted answers up to this round
    rounds: Sequence[int]  # that can be shown, the latest first
    closed: int | None  # the latest round that closed


def reasons_page(backend: Backend, dataset_id: int, number: int | None = None) -> ReasonsPage:
    """Gather where the versions of a round looked, of the latest one if no number is given.

    Raises:
        NotFoundError: there is no such dataset.
    """
    with backend.store.begin() as session:
        dataset = dataset_of(session, dataset_id)
        closed = select(Round).where(Round.dataset_id == dataset_id, Round.state == CLOSED)
        found = {
            each.number: kept_reasons(folder_of(each.version)) if each.version else None
            for each in session.scalars(closed.order_by(Round.number.desc()))
        }
        rounds = [each for each, reasons in found.items() if reasons is not None]
        shown = number if number in rounds else next(iter(rounds), None)
        painted = given(session, dataset_id, until=shown or 0, painted=True)
    return ReasonsPage(
        dataset_id=dataset.id,
        dataset=dataset.name,
        round=shown,
        reasons=found[shown] if shown is not None else None,
        painted=painted,
        rounds=rounds,
        closed=next(iter(found), None),
    )
