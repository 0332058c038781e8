"""Folders named after the classes as the source of a data set."""

from __future__ import annotations

from pathlib import Path

from imil_backend.errors import DatasetError
from imil_backend.loop.sources.folders import Parts, Tree, list_tree
from imil_backend.loop.sources.masks_beside import Paired, Place, pair_masks, strip
from imil_backend.loop.sources.rows import SPLIT_NAMES, Row, Source
from imil_backend.loop.sources.tables.labels import is_missing

LOOSE = "images outside the class folders"


def read_class_folders(root: Path) -> Source:
    """List the images of class folders, with split folders above them or without; see `masks_beside`.

    Raises:
        DatasetError: folders of splits and of classes lie side by side, or what is a mask is unclear.
    """
    found = Source([])
    tree = list_tree(root, found)
    paired = pair_masks(tree.files, found)
    depth = 1 if _has_splits(root, tree, paired) else 0
    for image in paired.images:
        if len(image.rest) <= depth:
            found.pass_over(LOOSE, "/".join(image.parts[:-1]) or root.name)
        elif not is_missing(image.rest[depth]):
            found.rows.append(_row(root, image, depth, paired.masks.get(image.parts)))
    _note_classes(tree, paired, depth, found)
    return found


def _row(root: Path, image: Place, depth: int, mask: Parts | None) -> Row:
    return Row(
        name=image.path,
        image=root.joinpath(*image.parts),
        label=image.rest[depth],
        split=SPLIT_NAMES[image.rest[0].casefold()] if depth else None,
        mask=root.joinpath(*mask) if mask else None,
        mask_was_named=False,
    )


def _has_splits(root: Path, tree: Tree, paired: Paired) -> bool:
    """Whether the first folders are those of splits."""
    tops = {image.rest[0] for image in paired.images if image.rest}
    tops |= {rest[0] for folder in tree.folders if (rest := strip(folder)[0])}
    others = sorted(name for name in tops if name.casefold() not in SPLIT_NAMES)
    if others and len(others) < len(tops):
        raise DatasetError(
            f"{root.name} has folders named after splits, and also {', '.join(others)}. Move the "
            "class folders into the splits' folders, and remove the others."
        )
    return bool(tops) and not others


def _note_classes(tree: Tree, paired: Paired, depth: int, found: Source) -> None:
    """Set aside the classes that have no images, and those whose name stands for no label."""
    places = {rest for folder in tree.folders if len(rest := strip(folder)[0]) == depth + 1}
    places |= {image.rest[: depth + 1] for image in paired.images if len(image.rest) > depth}
    filled = {image.rest[: depth + 1] for image in paired.images}
    for place in sorted(places):
        name = place[-1]
        if place not in filled:
            found.set_aside.append(("class", name, "This class folder has no images."))
        elif is_missing(name):
            count = sum(image.rest[: depth + 1] == place for image in paired.images)
            reason = (
                f"{name!r} is a word for a missing label; images that were not imported: {count}. "
                "Rename the folder if it is a class."
            )
            found.set_aside.append(("class", name, reason))
