"""A copy of a data set with a planted marker: a shortcut that is known, to see what corrects it."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from imil_backend.errors import DatasetError, SettingsError
from imil_backend.images.markers import CONTRADICTS, agreements, check_marker, draw_markers
from imil_backend.images.masks.masks import mask_to_png
from imil_backend.images.reading import ImageInfo
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.importing.importing import limited
from imil_backend.loop.importing.inspection import look_at
from imil_backend.loop.importing.storing import group_of
from imil_backend.loop.sources.read_source import Columns, Row, read_source
from imil_backend.loop.splitting.duplicates import (
    Picture,
    excluded_copies,
    groups_to_join,
    same_pictures,
    used_for_nothing,
)
from imil_backend.loop.splitting.exclusion import GROUP_IN_TEST
from imil_backend.loop.splitting.splits import Grouped, assign_splits

TABLE = "planted.csv"
_COLUMNS = ("image", "label", "split", "group", "mask", "source", "marker", "tells", CONTRADICTS)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Planting:
    """What is planted, and how often it agrees with the label.

    Attributes:
        markers: names in MARKERS; all of them go into each image.
        agreement: share of each class whose marker tells it, in training.
        validation_agreement: likewise in validation; as in training if None.
        test_agreement: likewise in test; if None as often as chance, so that the marker says nothing.
        seed: of everything that is drawn by chance.
    """

    markers: tuple[str, ...]
    agreement: float = 0.95
    validation_agreement: float | None = None
    test_agreement: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for share in (self.agreement, self.validation_agreement, self.test_agreement):
            if share is not None and not 0 <= share <= 1:
                raise SettingsError(f"An agreement is {share}; it must be from 0 to 1.")

    def shares(self, classes: int) -> dict[str, float]:
        """The agreement in each split."""
        validation, test = self.validation_agreement, self.test_agreement
        return {
            "train": self.agreement,
            "validation": self.agreement if validation is None else validation,
            "test": 1 / classes if test is None else test,
        }


@dataclass(frozen=True)
class PlannedImage:
    """An image of the source, and what its marker will tell."""

    row: Row
    split: str
    group: str
    label: int
    told: int


@dataclass(frozen=True)
class Plan:
    """What `write_planted` will write."""

    planting: Planting
    classes: tuple[str, ...]
    images: tuple[PlannedImage, ...]
    left_out: dict[str, str]  # reason by name: what cannot be read, copies, and groups of the test split

    def counts(self) -> dict[str, tuple[int, int]]:
        """For each split, how many images, and in how many the marker contradicts the label."""
        every = Counter(image.split for image in self.images)
        against = Counter(image.split for image in self.images if image.told != image.label)
        return {split: (every[split], against[split]) for split in ("train", "validation", "test")}


def plan_planting(
    backend: Backend,
    source: Path,
    planting: Planting,
    *,
    unpack_to: Path,
    columns: Columns | None = None,
    limit: int | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Look at a source and decide what each image's marker tells; nothing is written.

    Splits and groups are those that `imil import` would give it.

    Args:
        backend: with the limits of images.
        source: see `read_source`.
        planting: what is planted.
        unpack_to: where a zip's files go.
        columns: of a CSV.
        limit: take at most this many images, chosen by the seed.
        progress: called with the number of images looked at, and of all.

    Raises:
        DatasetError: there is nothing to plant in, or fewer than two classes.
        SettingsError: a marker is unknown, or cannot tell so many classes.
    """
    rows = read_source(source, columns or Columns(), unpack_to).rows
    looked_at = list(look_at(backend, limited(rows, limit, planting.seed), progress))
    left_out = {row.name: info for row, info in looked_at if isinstance(info, str)}
    usable = [(row, info) for row, info in looked_at if isinstance(info, ImageInfo)]
    classes = tuple(sorted({row.label for row, _ in usable}))
    if len(classes) < 2:
        raise DatasetError(f"{source} has fewer than two classes with usable images.")
    for marker in planting.markers:
        check_marker(marker, len(classes))
    split, excluded = _split(usable, planting.seed)
    left_out |= excluded
    kept = [(row, info) for row, info in usable if row.name not in excluded]
    images = [
        PlannedImage(row, split[row.name], group_of(row, info), classes.index(row.label), 0)
        for row, info in kept
    ]
    return Plan(planting, classes, tuple(_told(images, planting, len(classes))), left_out)


def _split(usable: Sequence[tuple[Row, ImageInfo]], seed: int) -> tuple[dict[str, str], dict[str, str]]:
    """The split of each image, and the reason of those that take no part."""
    pictures = [
        Picture(row.name, row.label, group_of(row, info), info.sha256, info.pixels_sha256, None)
        for row, info in usable
    ]
    copies = [same for same in same_pictures(pictures) if len(same) > 1]
    grouped = [Grouped(row.name, group_of(row, info), row.label, row.split) for row, info in usable]
    given = {row.name: row.split for row, _ in usable}
    splits = assign_splits(grouped, {}, seed, groups_to_join(copies), used_for_nothing(copies, given))
    excluded = dict.fromkeys(splits.leaking, GROUP_IN_TEST) | excluded_copies(copies, splits.split)
    return splits.split, excluded


def _told(images: Sequence[PlannedImage], planting: Planting, classes: int) -> list[PlannedImage]:
    """The images with what their markers tell: their own class, or any other one."""
    told = []
    for number, (split, share) in enumerate(planting.shares(classes).items()):
        random = np.random.default_rng([planting.seed, 0, number])
        own = [image for image in images if image.split == split]
        labels = np.array([image.label for image in own], np.int64)
        others = (labels + random.integers(1, classes, len(own))) % classes
        tells = np.where(agreements(labels, share, random), labels, others)
        told += [replace(image, told=int(tell)) for image, tell in zip(own, tells, strict=True)]
    return told


def write_planted(backend: Backend, plan: Plan, directory: Path, progress: Progress | None = None) -> Path:
    """Write the images with their markers, the masks, and the table that lists them.

    Grey or RGB PNG of 8 bits, at the natural size. The table is written last.

    Returns:
        The table: image, label, split, group, mask (white: what a clinician would paint over), source (the
        image's name there), marker, tells (a class), and contradicts (1 where that is not the label).

    Raises:
        DatasetError: the directory has files already.
    """
    if directory.exists() and any(directory.iterdir()):
        raise DatasetError(f"{directory} is not empty. Give another directory, or empty it.")
    for folder in ("images", "masks"):
        (directory / folder).mkdir(parents=True, exist_ok=True)
    table = directory / TABLE
    lines = []
    for number, image in enumerate(plan.images):
        lines.append(_write(backend, plan, image, number, directory))
        if progress:
            progress(number + 1, len(plan.images))
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([_COLUMNS, *lines])
    return table


def _write(
    backend: Backend, plan: Plan, image: PlannedImage, number: int, directory: Path
) -> tuple[str | int, ...]:
    """Write an image and its mask; its line of the table."""
    pixels = backend.read_image(image.row.image)
    random = np.random.default_rng([plan.planting.seed, 1, number])
    marked = draw_markers(pixels, plan.planting.markers, image.told, len(plan.classes), random)
    name = f"{number + 1:06d}-planted.png"
    (directory / "images" / name).write_bytes(marked.png())
    (directory / "masks" / name).write_bytes(mask_to_png(marked.mask))
    return (
        f"images/{name}",
        plan.classes[image.label],
        image.split,
        image.group,
        f"masks/{name}",
        image.row.name,
        "+".join(plan.planting.markers),
        plan.classes[image.told],
        int(image.told != image.label),
    )
