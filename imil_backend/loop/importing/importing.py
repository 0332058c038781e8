"""Importing a data set: read every image, keep what can be used, and report what was found."""

from __future__ import annotations

import hashlib
import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from imil_backend.errors import DatasetError
from imil_backend.images.intensity.windows import parse_window
from imil_backend.images.reading import ImageInfo
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.dataset_window import check_window, choose_window, shown_by, window_of
from imil_backend.loop.base.states import TRAINING
from imil_backend.loop.base.unfinished import UNPACKED, importing
from imil_backend.loop.importing.inspection import look_at, warn_of_unused_masks
from imil_backend.loop.importing.reasons import Reason, by_reason
from imil_backend.loop.importing.storing import keep
from imil_backend.loop.sources.archives import unpacked_folder
from imil_backend.loop.sources.file_names import is_utf8, printable
from imil_backend.loop.sources.read_source import Columns, Row, Source, read_source
from imil_backend.loop.sources.tables.labels import warn_of_look_alikes
from imil_backend.loop.splitting.duplicates import NearDuplicates, near_pairs
from imil_backend.store.tables import Dataset, Round, Sample, Version

SHOWN_REASONS = 3
SPLITS = ("train", "validation", "test")


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
    read: int = 0  # images that the source names: added, known and set aside
    set_aside_reasons: tuple[Reason, ...] = ()  # the same, counted
    # Of the whole dataset, as it is now:
    groups: dict[str, int] = field(default_factory=dict)  # by split, of what is not left out
    ungrouped: int = 0  # samples without a group of their source's or a DICOM patient: each is its own
    left_out: dict[str, int] = field(default_factory=dict)  # samples by split
    excluded: dict[str, str] = field(default_factory=dict)  # reason of those, by name
    duplicates: tuple[tuple[str, ...], ...] = ()  # names of the copies of each image that has some
    near_duplicates: tuple[NearDuplicates, ...] = ()
    passed_over: dict[str, dict[str, int]] = field(default_factory=dict)  # what -> where -> number of files
    warnings: tuple[str, ...] = ()  # of what was imported all the same
    shown_by: dict[str, int] = field(default_factory=dict)  # see `windows.shown_by`
    hidden: int = 0  # images in which the window leaves nothing to see


def import_dataset(
    backend: Backend,
    source: Path,
    *,
    name: str | None = None,
    columns: Columns | None = None,
    mask_means: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    keep_leaking: bool = False,
    window: str | None = None,
    allow_outside: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Import a folder, CSV or zip. Importing it again adds only what is new.

    Args:
        backend: where to.
        source: see `sources.read_source`.
        name: the dataset's name (default: the source's).
        columns: of the CSV.
        mask_means: whether the masks of the source mark the "relevant" or the "irrelevant" region; relevant
            if absent.
        limit: import at most this many images, chosen by the seed.
        seed: of the limit's choice and of the splits.
        keep_leaking: train on samples even if their group is in the given test split too, but never on
            copies of its images.
        window: by which clinicians see images of more than 8 bits, see `parse_window`; as before if absent.
        allow_outside: see `sources.read_source`.
        progress: called with the number of images looked at, and of all.

    Raises:
        DatasetError: there is nothing to import, or it does not fit the dataset.
    """
    unpack_to = backend.path(UNPACKED, "x").parent
    with _importing(backend, source, unpack_to):
        found = read_source(source, columns or Columns(), unpack_to, allow_outside=allow_outside)
        if mask_means and not any(row.mask for row in found.rows):
            raise DatasetError(f"--mask-means does not apply: no image of {source} has a mask. Omit it.")
        found.rows = limited(found.rows, limit, seed)
        return import_rows(
            backend,
            found,
            name or _title(source),
            mask_means=mask_means or "relevant",
            seed=seed,
            keep_leaking=keep_leaking,
            window=window,
            progress=progress,
        )


def _importing(backend: Backend, source: Path, unpack_to: Path) -> AbstractContextManager[None]:
    """Within it a source is imported; what was unpacked of a zip goes again if nothing comes of it."""
    if not (source.is_file() and zipfile.is_zipfile(source)):
        return nullcontext()
    return importing(unpacked_folder(source, unpack_to), backend.uses_unpacked)


def import_rows(
    backend: Backend,
    found: Source,
    name: str,
    *,
    mask_means: str = "relevant",
    seed: int = 0,
    keep_leaking: bool = False,
    window: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Look at the images of a source's rows and keep those that can be used; see `import_dataset`."""
    if not is_utf8(name):
        raise DatasetError(f"The name {printable(name)} is not UTF-8. Choose another --name.")
    found.check_texts()
    wanted = parse_window(window) if window is not None else None
    looked_at = list(look_at(backend, found.rows, progress, wanted))
    found.warnings += warn_of_unused_masks(row for row, _ in looked_at)
    images = [info for _, info in looked_at if isinstance(info, ImageInfo)]
    usable = sorted({row.label for row, info in looked_at if isinstance(info, ImageInfo)})
    reasons = [f"{reference}: {why}" for _, reference, why in found.set_aside]
    reasons += [f"{row.name}: {why}" for row, why in looked_at if isinstance(why, str)]
    why = f" The first reasons: {' '.join(reasons[:SHOWN_REASONS])}" if reasons else ""
    if not usable:
        raise DatasetError(f"None of the images can be used.{why} {found.hint}".strip())
    check_window(wanted, images)
    with backend.store.begin() as session:
        dataset = _dataset(session, name, usable, why)
        _note_source(dataset, found)
        choose_window(dataset, window)
        found.warnings += warn_of_look_alikes(dataset.classes)
        kept = keep(
            session, dataset, found, looked_at, mask_means=mask_means, seed=seed, keep_leaking=keep_leaking
        )
        described = _described(session, dataset)
        described["shown_by"] = shown_by(window_of(dataset), images)
    set_aside = tuple((reference, reason) for _, reference, reason in kept.set_aside)
    return ImportReport(
        added=kept.added,
        known=kept.known,
        set_aside=set_aside,
        leaking=kept.leaking,
        unlabelled=found.unlabelled,
        read=kept.added + kept.known + sum(kind not in {"class", "folder"} for kind, _, _ in kept.set_aside),
        hidden=sum(image.hidden for image in images),
        set_aside_reasons=by_reason(set_aside),
        excluded=kept.excluded,
        duplicates=tuple(tuple(copy.name for copy in copies) for copies in kept.same if len(copies) > 1),
        # After the transaction: with many images this takes a while, and nobody else is to wait for it.
        near_duplicates=tuple(near_pairs(kept.same, kept.split, kept.excluded)),
        passed_over={what: dict(where) for what, where in found.passed_over.items()},
        warnings=tuple(found.warnings),
        **described,
    )


def _described(session: Session, dataset: Dataset) -> dict[str, Any]:
    """What a report says of the whole dataset."""
    own = Sample.dataset_id == dataset.id
    itself = select(Sample.name).where(own).scalar_subquery()  # a group of images is named by one of them
    ungrouped = select(func.count(Sample.id)).where(own, Sample.group.in_(itself))
    return {
        "dataset": dataset.name,
        "counts": sample_counts(session, dataset.id),
        "groups": group_counts(session, dataset.id),
        "left_out": left_out_counts(session, dataset.id),
        "ungrouped": session.scalar(ungrouped) or 0,
    }


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
    """A random choice that takes the same images each time, and more when the limit grows."""
    if limit is None or limit >= len(rows):
        return rows
    return sorted(rows, key=lambda row: hashlib.sha256(f"{seed}/{row.name}".encode()).digest())[:limit]


def _dataset(session: Session, name: str, labels: list[str], why: str) -> Dataset:
    """The dataset, created if missing, with the classes of these labels; `why` there are no others."""
    dataset = session.scalar(select(Dataset).where(Dataset.name == name))
    if dataset is None:
        if len(labels) < 2:
            raise DatasetError(
                f"All usable images have the label {labels[0]!r}; a classifier needs at least two "
                f"classes.{why}"
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
    """Why a dataset's classes can no longer change, or None."""
    versions = select(Version.id).where(Version.dataset_id == dataset.id).limit(1)
    if session.scalar(versions) is not None:
        return "trained versions"
    trainings = select(Round.id).where(Round.dataset_id == dataset.id, Round.state == TRAINING).limit(1)
    return None if session.scalar(trainings) is None else "a training in progress,"


def sample_counts(session: Session, dataset_id: int) -> dict[str, dict[str, int]]:
    """The number of samples by split and class."""
    counts: dict[str, dict[str, int]] = {split: Counter() for split in SPLITS}
    found = session.execute(
        select(Sample.split, Sample.label, func.count())
        .where(Sample.dataset_id == dataset_id)
        .group_by(Sample.split, Sample.label)
    )
    for split, label, count in found:
        counts[split][label] = count
    return {split: dict(by_class) for split, by_class in counts.items()}


def group_counts(session: Session, dataset_id: int) -> dict[str, int]:
    """The number of groups by split that are not entirely excluded."""
    used = Sample.excluded.is_(None)
    return _by_split(session, func.count(Sample.group.distinct()), Sample.dataset_id == dataset_id, used)


def left_out_counts(session: Session, dataset_id: int) -> dict[str, int]:
    """The number of samples by split that are excluded from training and metrics."""
    left_out = Sample.excluded.is_not(None)
    return _by_split(session, func.count(Sample.id), Sample.dataset_id == dataset_id, left_out)


def _by_split(session: Session, what: Any, *conditions: Any) -> dict[str, int]:
    counts = dict.fromkeys(SPLITS, 0)
    for split, count in session.execute(select(Sample.split, what).where(*conditions).group_by(Sample.split)):
        counts[split] = count
    return counts
