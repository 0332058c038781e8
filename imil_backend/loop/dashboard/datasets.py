"""The datasets, as the navigation of every page lists them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from imil_backend.errors import NotFoundError
from imil_backend.images.phantoms import IS_PHANTOM
from imil_backend.loop.base.backend import Backend
from imil_backend.store.tables import Dataset, Sample

# What `imil phantoms` and `imil plant` call their files.
_MADE = {"phantoms": IS_PHANTOM, "planted": re.compile(r"\d{6}-planted\.png$")}


@dataclass(frozen=True)
class Listed:
    """A dataset by its number, which stands in addresses: a name may hold anything."""

    id: int
    name: str
    made: str | None  # "phantoms" or "planted", where its images are: they say nothing about patients


def datasets(backend: Backend) -> list[Listed]:
    """All datasets, the oldest first."""
    with backend.store.begin() as session:
        found = session.execute(select(Dataset.id, Dataset.name).order_by(Dataset.id)).all()
        return [Listed(number, name, made_as(session, number)) for number, name in found]


def made_as(session: Session, dataset_id: int) -> str | None:
    """Whether a dataset's images are "phantoms" or "planted", as the first name tells."""
    first = select(func.min(Sample.name)).where(Sample.dataset_id == dataset_id)  # at hand in an index
    name = session.scalar(first) or ""
    return next((kind for kind, pattern in _MADE.items() if pattern.search(name)), None)


def dataset_of(session: Session, dataset_id: int) -> Dataset:
    """The dataset of this number.

    Raises:
        NotFoundError: there is none.
    """
    dataset = session.get(Dataset, dataset_id)
    if dataset is None:
        raise NotFoundError(f"There is no dataset {dataset_id}. The start page lists them.")
    return dataset
