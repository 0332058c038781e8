"""Storing what an import found: new samples with their splits, and what is excluded from training."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from imil_backend.images.reading import ImageInfo
from imil_backend.loop.base import audit
from imil_backend.loop.base.set_aside import forget_set_aside, note_set_aside
from imil_backend.loop.sources.read_source import Row, Source
from imil_backend.loop.splitting.duplicates import (
    Picture,
    excluded_copies,
    groups_of,
    groups_to_join,
    same_pictures,
    used_for_nothing,
)
from imil_backend.loop.splitting.exclusion import GROUP_IN_TEST
from imil_backend.loop.splitting.splits import Grouped, Splits, assign_splits
from imil_backend.store.tables import Dataset, Sample

_AT_ONCE = 500  # rows, or values in a statement, which takes a limited number

LookedAt = tuple[Row, ImageInfo]


@dataclass(frozen=True)
class Kept:
    """What has become of a source's rows, and how the dataset stands now."""

    added: int
    known: int
    set_aside: tuple[tuple[str, str, str], ...]  # kind, reference, reason
    leaking: tuple[str, ...]  # names of samples whose group is in the given test split too, found now
    same: list[list[Picture]]  # every image of the dataset with its copies
    split: dict[str, str]  # of every sample, by name
    excluded: dict[str, str]  # reason of every sample that is left out, by name


def keep(
    session: Session,
    dataset: Dataset,
    found: Source,
    looked_at: Iterable[tuple[Row, ImageInfo | str]],
    *,
    mask_means: str,
    seed: int,
    keep_leaking: bool,
) -> Kept:
    """Add the new samples of a source to its dataset, and judge all of them anew."""
    known = _known(session, dataset.id)
    new, again, set_aside = _sorted_out(known, looked_at)
    set_aside = [*found.set_aside, *set_aside]
    judged = _judge(session, dataset.id, known, again, new, seed)
    leaking = [*judged.leaking, *_leaking_since(session, dataset.id, new, judged.split, keep_leaking)]
    _add(session, dataset, new, judged, mask_means, keep_leaking)
    _exclude(session, dataset.id, excluded_copies(judged.copies, judged.split))
    excluded = _note_excluded(session, dataset.id, known)
    _follow_source(session, known, again, mask_means)
    _note(session, dataset.id, [row for row, _ in new + again], set_aside)
    return Kept(
        added=len(new),
        known=len(again),
        set_aside=tuple(set_aside),
        leaking=tuple(sorted(leaking)),
        same=judged.same,
        split=judged.split,
        excluded=excluded,
    )


def _known(session: Session, dataset_id: int) -> dict[str, Any]:
    """What is kept of each sample of the dataset, by name."""
    there = select(
        Sample.id, Sample.name, Sample.sha256, Sample.pixels_sha256, Sample.perceptual_hash, Sample.label,
        Sample.group, Sample.split, Sample.path, Sample.clinician_mask, Sample.clinician_mask_means,
        Sample.address, Sample.source_task, Sample.excluded, Sample.channels, Sample.shown_as_is,
    ).where(Sample.dataset_id == dataset_id)  # fmt: skip
    return {sample.name: sample for sample in session.execute(there)}


@dataclass(frozen=True)
class _Judged:
    """What follows from all images of a dataset together.

    Attributes:
        same: every image with its copies.
        copies: of these, the images that have some.
        split: of every sample, by name.
        leaking: names of the new samples whose group is in the given test split too.
        groups: of the new samples that take another one than their own, by name.
    """

    same: list[list[Picture]]
    copies: list[list[Picture]]
    split: dict[str, str]
    leaking: Collection[str]
    groups: Mapping[str, str]


def _judge(
    session: Session,
    dataset_id: int,
    known: Mapping[str, Any],
    again: list[LookedAt],
    new: list[LookedAt],
    seed: int,
) -> _Judged:
    same = same_pictures(_pictures(known, again, new))
    copies = [pictures for pictures in same if len(pictures) > 1]
    earlier = {sample.name: sample.split for sample in known.values()}
    splits = _split(session, dataset_id, new, seed, copies, earlier)
    split = earlier | splits.split
    groups = groups_of(copies, split, {row.name for row, info in new if not (row.group or info.group)})
    return _Judged(same, copies, split, splits.leaking, groups)


def _add(
    session: Session,
    dataset: Dataset,
    new: list[LookedAt],
    judged: _Judged,
    mask_means: str,
    keep_leaking: bool,
) -> None:
    def values(row: Row, info: ImageInfo) -> dict[str, Any]:
        leaks = row.name in judged.leaking and not keep_leaking
        group = judged.groups.get(row.name) or group_of(row, info)
        return _values(dataset, row, info, judged.split[row.name], group, leaks, mask_means)

    for start in range(0, len(new), _AT_ONCE):  # as rows: objects of a million samples would take gigabytes
        session.execute(insert(Sample), [values(*each) for each in new[start : start + _AT_ONCE]])


def _sorted_out(
    known: Mapping[str, Any], looked_at: Iterable[tuple[Row, ImageInfo | str]]
) -> tuple[list[LookedAt], list[LookedAt], list[tuple[str, str, str]]]:
    """The rows that are new, those that are known, and what is to be set aside."""
    new: list[LookedAt] = []
    again: list[LookedAt] = []
    set_aside: list[tuple[str, str, str]] = []
    for row, info in looked_at:
        if isinstance(info, str):
            set_aside.append(("image", row.name, info))
        elif row.name not in known:
            new.append((row, info))
        elif problem := _difference(known[row.name], row, info):
            set_aside.append(("image", row.name, problem))
        else:
            again.append((row, info))
    return new, again, set_aside


def _difference(known: Any, row: Row, info: ImageInfo) -> str | None:
    """Why the source's image is no longer the sample that was imported, or None."""
    if known.sha256 != info.sha256:
        return "Its content has changed since it was imported. Import it under another name."
    if known.label != row.label:
        return f"Its label in the source is now {row.label!r}; the imported one, {known.label!r}, is kept."
    return None


def _pictures(known: Mapping[str, Any], again: list[LookedAt], new: list[LookedAt]) -> list[Picture]:
    """All samples of the dataset as pictures; what was looked at again is told by what was seen now."""
    seen = {row.name: info for row, info in again}
    pictures = []
    for sample in known.values():
        pixels = seen.get(sample.name, sample)
        pictures.append(
            Picture(
                sample.name, sample.label, sample.group, sample.sha256,
                pixels.pixels_sha256, pixels.perceptual_hash,
            )
        )  # fmt: skip
    for row, info in new:
        pictures.append(
            Picture(
                row.name,
                row.label,
                group_of(row, info),
                info.sha256,
                info.pixels_sha256,
                info.perceptual_hash,
            )
        )
    return pictures


def _split(
    session: Session,
    dataset_id: int,
    new: list[LookedAt],
    seed: int,
    copies: list[list[Picture]],
    earlier: Mapping[str, str],
) -> Splits:
    known: dict[str, set[str]] = defaultdict(set)
    groups = select(Sample.group, Sample.split).where(Sample.dataset_id == dataset_id).distinct()
    for group, split in session.execute(groups):
        known[group].add(split)
    grouped = [Grouped(row.name, group_of(row, info), row.label, row.split) for row, info in new]
    given = {**earlier, **{row.name: row.split for row, _ in new}}
    return assign_splits(grouped, known, seed, groups_to_join(copies), used_for_nothing(copies, given))


def _leaking_since(
    session: Session, dataset_id: int, new: list[LookedAt], split: Mapping[str, str], keep: bool
) -> list[str]:
    """Names of the samples that are there already and whose group has come into the test split now."""
    in_test = sorted({group_of(row, info) for row, info in new if split[row.name] == "test"})
    names = []
    for start in range(0, len(in_test), _AT_ONCE):
        crossing = select(Sample).where(
            Sample.dataset_id == dataset_id,
            Sample.group.in_(in_test[start : start + _AT_ONCE]),
            Sample.split != "test",
            Sample.excluded.is_(None),
        )
        for sample in session.scalars(crossing):
            names.append(sample.name)
            sample.excluded = None if keep else GROUP_IN_TEST
    return names


def _exclude(session: Session, dataset_id: int, reasons: Mapping[str, str]) -> None:
    """Leave out what is left out from now on. A copy stays one, so nothing is ever taken back."""
    names = sorted(reasons)
    for start in range(0, len(names), _AT_ONCE):
        chosen = select(Sample).where(
            Sample.dataset_id == dataset_id, Sample.name.in_(names[start : start + _AT_ONCE])
        )
        for sample in session.scalars(chosen):
            sample.excluded = reasons[sample.name]


def _note_excluded(session: Session, dataset_id: int, known: Mapping[str, Any]) -> dict[str, str]:
    """The reasons of all samples that are left out, by name; new ones go into the audit trail."""
    left_out = select(Sample.id, Sample.name, Sample.excluded).where(
        Sample.dataset_id == dataset_id, Sample.excluded.is_not(None)
    )
    found = session.execute(left_out.order_by(Sample.id)).all()
    for sample, name, reason in found:
        if name not in known or known[name].excluded != reason:
            audit.note(session, dataset_id, audit.LEFT_OUT, sample_id=sample, reason=reason)
    return {name: str(reason) for _, name, reason in found}


def _follow_source(
    session: Session, known: Mapping[str, Any], again: list[LookedAt], mask_means: str
) -> None:
    """Take over where images lie now, what was not looked at or read otherwise once, and later masks."""
    for row, info in again:
        sample = known[row.name]
        now: dict[str, Any] = {
            "path": str(row.image.absolute()),
            "pixels_sha256": info.pixels_sha256,
            "perceptual_hash": info.perceptual_hash,
            "channels": info.channels,
            "shown_as_is": info.shown_as_is,
        }
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


def group_of(row: Row, info: ImageInfo) -> str:
    """The source's word, else the DICOM patient, else the image by itself."""
    return row.group or info.group or row.name


def _values(
    dataset: Dataset, row: Row, info: ImageInfo, split: str, group: str, leaking: bool, mask_means: str
) -> dict[str, Any]:
    """Of a sample's row."""
    return {
        "dataset_id": dataset.id,
        "key": hashlib.sha256(f"{dataset.name}\0{row.name}\0{info.sha256}".encode()).hexdigest()[:32],
        "name": row.name,
        "path": str(row.image.absolute()),
        "sha256": info.sha256,
        "width": info.width,
        "height": info.height,
        "channels": info.channels,
        "shown_as_is": info.shown_as_is,
        "label": row.label,
        "split": split,
        "group": group,
        "excluded": GROUP_IN_TEST if leaking else None,
        "pixels_sha256": info.pixels_sha256,
        "perceptual_hash": info.perceptual_hash,
        "clinician_mask": str(row.mask.absolute()) if row.mask else None,
        "clinician_mask_means": mask_means,
        "address": row.address,
        "source_task": row.task,
    }
