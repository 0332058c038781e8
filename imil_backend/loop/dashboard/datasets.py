"""The datasets, as the navigation of every page lists them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.errors import NotFoundError
from imil_backend.loop.base.backend import Backend
from imil_backend.store.tables import Dataset


@dataclass(frozen=True)
class Listed:
    """A dataset by its number, which stands in addresses: a name may hold anything."""

    id: int
    name: str


def datasets(backend: Backend) -> list[Listed]:
    """All datasets, the oldest first."""
    with backend.store.begin() as session:
        found = session.execute(select(Dataset.id, Dataset.name).order_by(Dataset.id))
        return [Listed(*row) for row in found]


def dataset_of(session: Session, dataset_id: int) -> Dataset:
    """The dataset of this number.

    Raises:
        NotFoundError: there is none.
    """
    dataset = session.get(Dataset, dataset_id)
    if dataset is None:
        raise NotFoundError(f"There is no dataset {dataset_id}. The start page lists them.")
    return dataset
