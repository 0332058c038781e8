"""The datasets, as the navigation of every page lists them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from imil_backend.errors import NotFoundError
from imil_backend.loop.base import audit
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.dashboard.keeping import Kept, stamp_of
from imil_backend.loop.importing import made
from imil_backend.store.tables import Dataset, Sample


@dataclass(frozen=True)
class Listed:
    """A dataset by its number, which stands in addresses: a name may hold anything."""

    id: int
    name: str
    made: str | None  # "phantoms" or "planted", where images are: they say nothing about patients


def datasets(backend: Backend) -> list[Listed]:
    """All datasets, the oldest first."""
    with backend.store.begin() as session:
        found = session.execute(select(Dataset.id, Dataset.name).order_by(Dataset.id)).all()
        return [Listed(number, name, made_as(session, number)) for number, name in found]


def made_as(session: Session, dataset_id: int) -> str | None:
    """Whether any of a dataset's images is "phantoms" or "planted", looked up again after an import."""
    latest = session.scalar(select(func.max(Sample.id)))  # of all datasets: at hand in an index
    stamp = (*stamp_of(session, dataset_id, audit.ERASED), latest)
    return _kept.get(stamp, lambda: made.made_as(session, dataset_id) or "") or None


_kept = Kept[str](most=100)  # every page lists all datasets


def dataset_of(session: Session, dataset_id: int) -> Dataset:
    """The dataset of this number.

    Raises:
        NotFoundError: there is none.
    """
    dataset = session.get(Dataset, dataset_id)
    if dataset is None:
        raise NotFoundError(f"There is no dataset {dataset_id}. The start page lists them.")
    return dataset
