"""Importing a data set: look at every image, split by group, keep what can be used."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from imil_backend.errors import DatasetError
from imil_backend.images.reading import ImageInfo
from imil_backend.loop.backend import Backend, forget_set_aside, note_set_aside
from imil_backend.loop.inspection import look_at
from imil_backend.loop.rounds import TRAINING
from imil_backend.loop.sources import Columns, Row, Source, read_source
from imil_backend.loop.splits import Grouped, Splits, assign_splits
from imil_backend.store.tables import Dataset, Round, Sample, Version

SHOWN_REASONS = 3


@dataclass(frozen=True)
class ImportReport:
    """What an import did."""

    dataset: str
    added: int
    known: int
    set_aside: tuple[tuple[str, str], ...]  # reference, reason
    leaking: tuple[str, ...]  # names of samples whose group is in the given test split too
    counts: dict[str, dict[str, int]]  # split -> class -> samples, of the whole dataset
    unlabelled: int = 0  # tasks of Label Studio that nobody has answered


def import_dataset(
    backend: Backend,
    source: Path,
    *,
    name: str | None = None,
    columns: Columns | None = None,
    mask_means: str = "relevant",
    limit: int | None = None,
    seed: int = 0,
    keep_leaking: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Import a folder, CSV or zip. Importing it again adds only what is new.

    Args:
        backend: where to.
        source: see `sources.read_source`.
        name: the dataset's name; the source's if absent.
        columns: of the CSV.
        mask_means: whether the masks of the source mark the "relevant" or the "irrelevant" region.
        limit: take only so many images, drawn by the seed.
        seed: of the limit's draw and of the splits.
        keep_leaking: train on samples even if their group is in the given test split too.
        progress: called with the number of images looked at, and of all.

    Raises:
        DatasetError: there is nothing to import, or it does not fit the dataset.
    """
    found = read_source(source, columns or Columns(), backend.path("datasets", "x").parent)
    found.rows = limited(found.rows, limit, seed)
    return import_rows(
        backend,
        found,
        name or _title(source),
        mask_means=mask_means,
        seed=seed,
        keep_leaking=keep_leaking,
        progress=progress,
    )


def import_rows(
    backend: Backend,
    found: Source,
    name: str,
    *,
    mask_means: str = "relevant",
    seed: int = 0,
    keep_leaking: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Look at the images of a source's rows and keep those that can be used; see `import_dataset`."""
    looked_at = list(look_at(backend, found.rows, progress))
    usable = sorted({row.label for row, info in looked_at if isinstance(info, ImageInfo)})
    reasons = [f"{reference}: {why}" for _, reference, why in found.set_aside]
    reasons += [f"{row.name}: {why}" for row, why in looked_at if isinstance(why, str)]
    why = f" The first reasons: {' '.join(reasons[:SHOWN_REASONS])}" if reasons else ""
    if not usable:
        raise DatasetError(f"None of the images can be used.{why}")
    with backend.store.begin() as session:
        dataset = _dataset(session, name, usable, why)
        _note_source(dataset, found)
        return _keep(session, dataset, found, looked_at, mask_means, seed, keep_leaking)


def _note_source(dataset: Dataset, found: Source) -> None:
    if found.project is None:
        return
    instance, number = found.project
    if dataset.source_project is not None and found.project != (
        dataset.source_instance,
        dataset.source_project,
    ):
        raise DatasetError(
            f"The dataset {dataset.name!r} comes from project {dataset.source_project} of "
            f"{dataset.source_instance}. Import under another --name."
        )
    dataset.source_instance, dataset.source_project = instance, number


def _title(source: Path) -> str:
    """A dataset's name from its source's."""
    source = source.absolute()
    return source.name if source.is_dir() else source.stem


def limited(rows: list[Row], limit: int | None, seed: int) -> list[Row]:
    """A draw that takes the same images each time, and more of them when the limit grows."""
    if limit is None or limit >= len(rows):
        return rows
    return sorted(rows, key=lambda row: hashlib.sha256(f"{seed}/{row.name}".encode()).digest())[:limit]


def _dataset(session: Session, name: str, labels: list[str], why: str) -> Dataset:
    """The dataset, made if need be, with the classes of these labels; `why` there are no others."""
    dataset = session.scalar(select(Dataset).where(Dataset.name == name))
    if dataset is None:
        if len(labels) < 2:
            raise DatasetError(
                f"All images that can be used have the label {labels[0]!r}; a classifier needs two classes "
                f"or more.{why}"
            )
        dataset = Dataset(name=name, classes=labels)
        session.add(dataset)
        session.flush()
    new = [label for label in labels if label not in dataset.classes]
    if new and (fixed_by := _what_fixes_classes(session, dataset)):
        raise DatasetError(
            f"The dataset {name!r} has {fixed_by} for {', '.join(dataset.classes)}; "
            f"{', '.join(new)} would change them. Import under another --name."
        )
    dataset.classes = sorted({*dataset.classes, *new})
    return dataset


def _what_fixes_classes(session: Session, dataset: Dataset) -> str | None:
    """What a dataset's classes may no longer change under, if there is such a thing."""
    versions = select(Version.id).where(Version.dataset_id == dataset.id).limit(1)
    if session.scalar(versions) is not None:
        return "trained versions"
    trainings = select(Round.id).where(Round.dataset_id == dataset.id, Round.state == TRAINING).limit(1)
    return None if session.scalar(trainings) is None else "a training under way,"


def _keep(
    session: Session,
    dataset: Dataset,
    found: Source,
    looked_at: Iterable[tuple[Row, ImageInfo | str]],
    mask_means: str,
    seed: int,
    keep_leaking: bool,
) -> ImportReport:
    there = select(
        Sample.id, Sample.name, Sample.sha256, Sample.label, Sample.path,
        Sample.clinician_mask, Sample.clinician_mask_means, Sample.address, Sample.source_task,
    ).where(Sample.dataset_id == dataset.id)  # fmt: skip
    known = {sample.name: sample for sample in session.execute(there)}
    new: list[tuple[Row, ImageInfo]] = []
    again: list[Row] = []
    set_aside = list(found.set_aside)
    for row, info in looked_at:
        if isinstance(info, str):
            set_aside.append(("image", row.name, info))
        elif row.name not in known:
            new.append((row, info))
        elif problem := _difference(known[row.name], row, info):
            set_aside.append(("image", row.name, problem))
        else:
            again.append(row)

    splits = _split(session, dataset.id, new, seed)
    leaking = [*splits.leaking, *_leaking_since(session, dataset.id, new, splits, keep_leaking)]
    for row, info in new:
        leaks = row.name in splits.leaking and not keep_leaking
        session.add(_sample(dataset, row, info, splits.split[row.name], leaks, mask_means))
    _follow_source(session, known, again, mask_means)
    _note(session, dataset.id, [row for row, _ in new] + again, set_aside)
    session.flush()
    return ImportReport(
        dataset=dataset.name,
        added=len(new),
        known=len(again),
        set_aside=tuple((reference, reason) for _, reference, reason in set_aside),
        leaking=tuple(sorted(leaking)),
        counts=sample_counts(session, dataset.id),
        unlabelled=found.unlabelled,
    )


def _difference(known: Any, row: Row, info: ImageInfo) -> str | None:
    """Why the source's image is no longer the sample that was imported, or None."""
    if known.sha256 != info.sha256:
        return "Its content has changed since it was imported. Import it under another name."
    if known.label != row.label:
        return f"The source says {row.label!r} now; it was imported as {known.label!r}, and stays that."
    return None


def _follow_source(session: Session, known: Mapping[str, Any], again: list[Row], mask_means: str) -> None:
    """Take over where images lie now, and masks that came later."""
    for row in again:
        sample = known[row.name]
        now: dict[str, Any] = {"path": str(row.image.absolute())}
        if row.task is not None:
            now |= {"address": row.address, "source_task": row.task}
        if row.mask:
            now |= {"clinician_mask": str(row.mask.absolute()), "clinician_mask_means": mask_means}
        if any(getattr(sample, name) != value for name, value in now.items()):
            session.execute(update(Sample).where(Sample.id == sample.id).values(now))


def _note(session: Session, dataset_id: int, fine: list[Row], set_aside: list[tuple[str, str, str]]) -> None:
    """Note what was set aside, and take back what can be used now."""
    forget_set_aside(session, dataset_id, "image", (row.name for row in fine))
    forget_set_aside(session, dataset_id, "class", (row.label for row in fine))
    note_set_aside(session, dataset_id, set_aside)


def _split(session: Session, dataset_id: int, new: list[tuple[Row, ImageInfo]], seed: int) -> Splits:
    known: dict[str, set[str]] = defaultdict(set)
    groups = select(Sample.group, Sample.split).where(Sample.dataset_id == dataset_id).distinct()
    for group, split in session.execute(groups):
        known[group].add(split)
    grouped = [Grouped(row.name, _group(row, info), row.label, row.split) for row, info in new]
    return assign_splits(grouped, known, seed)


def _leaking_since(
    session: Session, dataset_id: int, new: list[tuple[Row, ImageInfo]], splits: Splits, keep: bool
) -> list[str]:
    """Names of the samples that are there already and whose group has come into the test split now."""
    in_test = sorted({_group(row, info) for row, info in new if splits.split[row.name] == "test"})
    names = []
    for start in range(0, len(in_test), 500):  # a statement takes a limited number of values
        crossing = select(Sample).where(
            Sample.dataset_id == dataset_id,
            Sample.group.in_(in_test[start : start + 500]),
            Sample.split != "test",
            ~Sample.leaking,
        )
        for sample in session.scalars(crossing):
            names.append(sample.name)
            sample.leaking = not keep
    return names


def _group(row: Row, info: ImageInfo) -> str:
    """The source's word, else the DICOM patient, else the image by itself."""
    return row.group or info.group or row.name


def _sample(
    dataset: Dataset, row: Row, info: ImageInfo, split: str, leaking: bool, mask_means: str
) -> Sample:
    return Sample(
        dataset_id=dataset.id,
        key=hashlib.sha256(f"{dataset.name}\0{row.name}\0{info.sha256}".encode()).hexdigest()[:32],
        name=row.name,
        path=str(row.image.absolute()),
        sha256=info.sha256,
        width=info.width,
        height=info.height,
        channels=info.channels,
        shown_as_is=info.shown_as_is,
        label=row.label,
        split=split,
        group=_group(row, info),
        leaking=leaking,
        clinician_mask=str(row.mask.absolute()) if row.mask else None,
        clinician_mask_means=mask_means,
        address=row.address,
        source_task=row.task,
    )


def sample_counts(session: Session, dataset_id: int) -> dict[str, dict[str, int]]:
    """The number of samples by split and class."""
    counts: dict[str, dict[str, int]] = {split: Counter() for split in ("train", "validation", "test")}
    found = session.execute(
        select(Sample.split, Sample.label, func.count())
        .where(Sample.dataset_id == dataset_id)
        .group_by(Sample.split, Sample.label)
    )
    for split, label, count in found:
        counts[split][label] = count
    return {split: dict(by_class) for split, by_class in counts.items()}
