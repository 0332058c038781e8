"""Whose traces are to be erased, and where copies of the images occur."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from imil_backend.errors import NotFoundError
from imil_backend.images.reading import keyed_hash
from imil_backend.loop.base.audit import find_sample
from imil_backend.loop.base.backend import Backend
from imil_backend.store.tables import Dataset, Sample


@dataclass(frozen=True)
class Subject:
    """The samples that an erasure is about.

    Attributes:
        samples: those that were asked for, and all with the same pixels, in whichever dataset.
        copies: how many of these were not asked for.
        elsewhere: other datasets in which the group occurs.
        group: as it was asked for, which may be a PatientID that the samples have hashed.
    """

    samples: tuple[Sample, ...]
    copies: int
    elsewhere: tuple[str, ...] = ()
    group: str | None = None


def subject_of_sample(session: Session, dataset: Dataset, key_or_name: str) -> Subject:
    """A sample, by its key or its name in the source.

    Raises:
        NotFoundError: the dataset has none.
    """
    return _with_copies(session, [find_sample(session, dataset, key_or_name)])


def subject_of_group(backend: Backend, session: Session, dataset: Dataset, group: str) -> Subject:
    """The samples of a group, by its name, or by the PatientID of DICOM files.

    Raises:
        NotFoundError: the dataset has none.
    """
    names = {group, keyed_hash(group, backend.group_key())}
    found = session.scalars(select(Sample).where(Sample.group.in_(names)).order_by(Sample.id)).all()
    own = [sample for sample in found if sample.dataset_id == dataset.id]
    if not own:
        raise NotFoundError(
            f"Dataset {dataset.name!r} has no group {group!r}. Give what the group column held, the "
            "PatientID of DICOM files, or, where there are no groups, the sample's name."
        )
    others = {sample.dataset_id for sample in found} - {dataset.id}
    elsewhere = session.scalars(select(Dataset.name).where(Dataset.id.in_(others)).order_by(Dataset.name))
    return replace(_with_copies(session, own), elsewhere=tuple(elsewhere), group=group)


def _with_copies(session: Session, asked: Sequence[Sample]) -> Subject:
    files = {sample.sha256 for sample in asked}
    pixels = {sample.pixels_sha256 for sample in asked if sample.pixels_sha256}
    same = select(Sample).where(or_(Sample.sha256.in_(files), Sample.pixels_sha256.in_(pixels)))
    samples = tuple(session.scalars(same.order_by(Sample.id)))
    return Subject(samples, len(samples) - len(asked))
