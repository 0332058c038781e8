"""Masks among class folders: told from the images by where they lie or what they are called.

Known are `CLASS/images` with `CLASS/masks`, `images/CLASS` with `masks/CLASS`, a folder of masks beside the
classes or in one of them, all below folders of splits or above them, and `film_mask.png` beside `film.png`.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from imil_backend.errors import DatasetError
from imil_backend.loop.sources.folders import Parts
from imil_backend.loop.sources.junk import THUMBNAILS
from imil_backend.loop.sources.rows import SPLIT_NAMES, Source

MASKS = "masks of images"
STRAY_MASKS = "masks without an image"
_IMAGE_FOLDERS = frozenset({"image", "images", "img", "imgs"})
_MASK_FOLDERS = frozenset(
    {
        *("mask", "masks", "segmentation", "segmentations", "ground truth", "groundtruth", "gt"),
        *("label", "labels", "annotation", "annotations"),
    }
)
_MASK_ENDINGS = (
    "mask",
    "masks",
    "segmentation",
    "segmentations",
    "groundtruth",
    "ground truth",
    "ground_truth",
)
_WORD = "mask|masks|seg|segmentation|gt|groundtruth"
_MASK_NAME = re.compile(rf"(?P<image>.+?)[ _.-]+({_WORD})([ _.-]*\d+)?|({_WORD})[ _.-]+(?P<last>.+)", re.I)
_THUMBNAIL_NAME = re.compile(r"(?P<image>.+?)[ _.-]+(thumb|thumbnail|preview)", re.I)


@dataclass(frozen=True)
class Place:
    """A file: its path, and what remains of its folders when `images` and those of masks are left out."""

    parts: Parts
    rest: Parts
    mask_folder: Parts | None = None  # that it lies in

    @cached_property
    def stem(self) -> str:
        """Of the file's name, whatever its case."""
        return os.path.splitext(self.parts[-1])[0].casefold()  # noqa: PTH122 - it is asked of every file

    @property
    def path(self) -> str:
        """Below the source."""
        return "/".join(self.parts)


@dataclass
class Paired:
    """The images, and the mask of each that has just one."""

    images: list[Place] = field(default_factory=list)
    masks: dict[Parts, Parts] = field(default_factory=dict)  # image -> mask


class _Images:
    """Images by where they lie and what they are called."""

    def __init__(self, images: Iterable[Place]) -> None:
        self._by_place: dict[tuple[Parts, str], list[Place]] = defaultdict(list)
        self._by_stem: dict[tuple[Parts, str], list[Place]] = defaultdict(list)
        for image in images:
            self._by_place[image.rest, image.stem].append(image)
            self._by_stem[_split(image.rest), image.stem].append(image)

    def of_mask(self, mask: Place) -> Place | None:
        """The image that a file in a folder of masks belongs to, if there is just one."""
        after = _stems(_MASK_NAME, mask.stem)
        flat = mask.rest == _split(mask.rest)
        anywhere = [mask.stem, *after] if flat and _is_mask_folder(_last(mask)) else after
        keys = [self._by_place.get((mask.rest, stem)) for stem in (mask.stem, *after)]
        keys += [self._by_stem.get((_split(mask.rest), stem)) for stem in anywhere]
        found = next(filter(None, keys), [])
        return found[0] if len(found) == 1 else None

    def called_after(self, file: Place, name: re.Pattern[str]) -> Place | None:
        """The image that a file is called after: in its folder, else the only one of that name."""
        for stem in _stems(name, file.stem):
            beside = [each for each in self._by_place.get((file.rest, stem), ()) if each is not file]
            others = self._by_stem.get((_split(file.rest), stem), [])
            if beside or len(others) == 1:
                return (beside or others)[0]
        return None


def pair_masks(files: Sequence[Parts], found: Source) -> Paired:
    """Tell masks and thumbnails from images; what is no image is counted in `found`.

    Raises:
        DatasetError: a folder is called like one of masks, and no file in it belongs to an image.
    """
    places = [_place(parts) for parts in files]
    images, claims = _by_folder(places, found)
    known = _Images(images)
    paired = Paired()
    unsure = []
    for file in images:
        if image := known.called_after(file, _MASK_NAME):
            claims[image.parts].append(file)
        elif known.called_after(file, _THUMBNAIL_NAME):
            found.pass_over(THUMBNAILS, "/".join(file.parts[:-1]))
        else:
            paired.images.append(file)
            if _MASK_NAME.fullmatch(file.stem):
                unsure.append(file.path)
    _refuse_twins(paired.images)
    if unsure:
        found.warnings.append(
            "Imported as images, though they are named like masks, since no image matches them: "
            f"{len(unsure)} (the "
            f"first: {unsure[0]})."
        )
    _settle(paired, claims, found)
    return paired


def _refuse_twins(images: Sequence[Place]) -> None:
    """Refuse `CLASS/overlays` beside `CLASS/images` with files of the same names: which is to be learned?"""
    siblings: dict[Parts, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for image in images:
        if folders := image.parts[:-1]:
            siblings[folders[:-1]][folders[-1]].add(image.stem)
    for above, stems in siblings.items():
        for folder in [name for name in stems if name.casefold() in _IMAGE_FOLDERS]:
            for other, same in stems.items():
                if other != folder and 2 * len(stems[folder] & same) > len(same):
                    raise DatasetError(
                        f"The folders {'/'.join((*above, folder))} and {'/'.join((*above, other))} "
                        "contain files of the same names. Remove the one that does not contain the images."
                    )


def strip(folders: Parts, *, masks: bool = True) -> tuple[Parts, Parts | None]:
    """A file's folders without `images` and those of masks, and the path of the folder of masks."""
    rest: list[str] = []
    mask_folder: Parts | None = None
    for depth, name in enumerate(folders, 1):
        if masks and (_is_mask_folder(name) or name.casefold().endswith(_MASK_ENDINGS)):
            mask_folder = folders[:depth]
        elif name.casefold() not in _IMAGE_FOLDERS:
            rest.append(name)
    return tuple(rest), mask_folder


def _place(parts: Parts) -> Place:
    rest, mask_folder = strip(parts[:-1])
    return Place(parts, rest, mask_folder)


def _by_folder(places: Sequence[Place], found: Source) -> tuple[list[Place], dict[Parts, list[Place]]]:
    """The files in no folder of masks, and for each image those that claim to be its mask."""
    outside = [place for place in places if place.mask_folder is None]
    images = list(outside)
    folders: dict[Parts, list[Place]] = defaultdict(list)
    for place in places:
        if place.mask_folder is not None:
            folders[place.mask_folder].append(place)
    known = _Images(outside)
    claims: dict[Parts, list[Place]] = defaultdict(list)
    for folder, files in folders.items():
        owners = [(file, image) for file in files if (image := known.of_mask(file))]
        for file, image in owners:
            claims[image.parts].append(file)
        if owners:
            if stray := len(files) - len(owners):
                found.pass_over(STRAY_MASKS, "/".join(folder), stray)
        elif not outside and _may_be_class(folder):  # with_mask beside without_mask
            images += [Place(file.parts, strip(file.parts[:-1], masks=False)[0]) for file in files]
        else:
            raise DatasetError(
                f"The folder {'/'.join(folder)} is named like a folder of masks, but none of its "
                f"{len(files)} files matches an image. If it is a class, rename it; otherwise remove it."
            )
    return images, claims


def _settle(paired: Paired, claims: dict[Parts, list[Place]], found: Source) -> None:
    """Give each image its mask; one with several has none, since nobody said which one is meant."""
    several = []
    for image, masks in claims.items():
        for mask in masks:
            found.pass_over(MASKS, "/".join(mask.parts[:-1]))
        if len(masks) == 1:
            paired.masks[image] = masks[0].parts
        else:
            several.append((image, masks))
    if several:
        image, masks = several[0]
        found.warnings.append(
            f"Images with several masks, none of which is used: {len(several)} (the first: {'/'.join(image)} "
            f"has {' and '.join(mask.path for mask in masks)}). Name the right one in a CSV."
        )


def _is_mask_folder(name: str) -> bool:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold() in _MASK_FOLDERS


def _may_be_class(folder: Parts) -> bool:
    """Whether a folder that ends in 'mask' may be a class all the same: it lies where classes lie."""
    above, _ = strip(folder[:-1])
    return above == _split(above) and not _is_mask_folder(folder[-1])


def _split(rest: Parts) -> Parts:
    """The folder of the split that a file lies in, if it does."""
    return rest[:1] if rest and rest[0].casefold() in SPLIT_NAMES else ()


def _last(mask: Place) -> str:
    return mask.mask_folder[-1] if mask.mask_folder else ""


def _stems(name: re.Pattern[str], stem: str) -> list[str]:
    """The stem of the image that a file is called after, if it is."""
    match = name.fullmatch(stem)
    return [each for each in match.groupdict().values() if each] if match else []
