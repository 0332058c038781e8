"""Duplicates: which copies of an image may be trained and measured on. Pure functions.

Two images are the same if their bytes are, or if the same pixels come out of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from imil_backend.images.likeness import near_duplicates
from imil_backend.loop.splitting.clusters import joined
from imil_backend.loop.splitting.exclusion import COPY_IN_TEST, COPY_IN_VALIDATION, SEVERAL_LABELS


@dataclass(frozen=True)
class Picture:
    """What is compared of one sample."""

    name: str
    label: str
    group: str
    sha256: str  # of the file
    pixels_sha256: str | None
    perceptual_hash: str | None


@dataclass(frozen=True)
class NearDuplicates:
    """Two images that look the same and are not."""

    images: tuple[str, str]  # their names
    splits: tuple[str, str]

    @property
    def across(self) -> bool:
        """Whether they are in different splits."""
        return self.splits[0] != self.splits[1]


def same_pictures(pictures: Iterable[Picture]) -> list[list[Picture]]:
    """Every picture that is there, with all its copies; the order of the pictures stays."""
    pictures = list(pictures)
    cluster = joined(_known_by(picture) for picture in pictures)
    copies: dict[str, list[Picture]] = defaultdict(list)
    for picture in pictures:
        copies[cluster[picture.sha256]].append(picture)
    return list(copies.values())


def _known_by(picture: Picture) -> list[str]:
    return [picture.sha256, *([f"pixels {picture.pixels_sha256}"] if picture.pixels_sha256 else [])]


def groups_to_join(same: Iterable[Sequence[Picture]]) -> list[set[str]]:
    """Groups that have an image in common, so that drawing splits does not part its copies.

    Copies whose labels contradict each other are left out anyway, and join nothing.
    """
    groups = [{copy.group for copy in copies} for copies in same if not _contradict(copies)]
    return [each for each in groups if len(each) > 1]


def used_for_nothing(same: Iterable[Sequence[Picture]], given: Mapping[str, str | None]) -> set[str]:
    """Names of the copies that will be left out wherever they come to be.

    Args:
        same: the copies of each image.
        given: the split that a sample has before any is drawn, by name.
    """
    names: set[str] = set()
    for copies in same:
        if _contradict(copies):
            names |= {copy.name for copy in copies}
        elif any(given[copy.name] == "test" for copy in copies):
            names |= {copy.name for copy in copies if given[copy.name] != "test"}
    return names


def excluded_copies(same: Iterable[Sequence[Picture]], split: Mapping[str, str]) -> dict[str, str]:
    """The names of the copies that are to be left out, with the reason.

    Of an image in several splits those in the test split stay, else those in the validation split: what was
    trained on, or chosen by, must not be measured on. Of an image with several labels nobody can say which
    is right: no copy stays, since a figure that counts one of them as an error says nothing.

    Args:
        same: the copies of each image.
        split: of every sample, by name.
    """
    excluded: dict[str, str] = {}
    for copies in same:
        splits = {split[copy.name] for copy in copies}
        if _contradict(copies):
            excluded |= dict.fromkeys((copy.name for copy in copies), SEVERAL_LABELS)
        elif len(splits) > 1:
            stays, reason = ("test", COPY_IN_TEST) if "test" in splits else ("validation", COPY_IN_VALIDATION)
            excluded |= {copy.name: reason for copy in copies if split[copy.name] != stays}
    return excluded


def groups_of(
    same: Iterable[Sequence[Picture]], split: Mapping[str, str], ungrouped: Collection[str]
) -> dict[str, str]:
    """The groups of the samples that have none of their source's.

    The copies of an image in one split are one group: several would pass for as many patients wherever
    groups are counted.
    """
    groups = {}
    for copies in same:
        first: dict[str, str] = {}
        for copy in copies:
            group = first.setdefault(split[copy.name], copy.group)
            if copy.name in ungrouped:
                groups[copy.name] = group
    return groups


def near_pairs(
    same: Iterable[Sequence[Picture]], split: Mapping[str, str], excluded: Collection[str]
) -> list[NearDuplicates]:
    """Images that are nearly the same, those of different splits first, then the most alike.

    Args:
        same: the copies of each image.
        split: of every sample, by name.
        excluded: names of the samples that are left out, and not looked at.
    """
    names, hashes = [], []
    for copies in same:
        used = (each for each in copies if each.name not in excluded)
        if (picture := next(used, None)) and picture.perceptual_hash:
            names.append(picture.name)
            hashes.append(picture.perceptual_hash)
    found = [(names[first], names[second]) for first, second in near_duplicates(hashes)]
    pairs = [NearDuplicates(images, (split[images[0]], split[images[1]])) for images in found]
    return sorted(pairs, key=lambda pair: not pair.across)


def _contradict(copies: Sequence[Picture]) -> bool:
    return len({copy.label for copy in copies}) > 1
