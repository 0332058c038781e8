"""Label Studio's regions as masks: which pixels of an image are irrelevant to the diagnosis.

A mask is boolean, of shape (height, width) at the image's natural size (EXIF orientation applied), and
True where a pixel is irrelevant. Turning or zooming the view in the editor never changes it.

What a whole annotation says:

- pixels of irrelevant regions are irrelevant;
- if any pixel is painted relevant, everything outside the relevant regions is irrelevant;
- with both, irrelevant wins: a pixel stays only if it is relevant and not irrelevant;
- with neither, nothing is irrelevant.

Key points cover no area and are passed over (`regions.key_points` names them).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from imil_backend.errors import MaskError, MaskSizeError, RegionTypeError
from imil_backend.files import regular_size
from imil_backend.images.masks.region_types import REGION_TYPES, decode_png, painted
from imil_backend.images.masks.regions import LabelMapping, Region, labels_of, painted_regions, shortened
from imil_backend.images.masks.rle import decode_rle, encode_rle

__all__ = [
    "LabelMapping",
    "annotation_mask",
    "combine_masks",
    "decode_rle",
    "dice",
    "encode_rle",
    "mask_coverage",
    "mask_from_png",
    "mask_to_png",
]

Mask = NDArray[np.bool_]

# How many of several annotators must have painted a pixel.
_VOTES: dict[str, Callable[[int], int]] = {
    "union": lambda _annotators: 1,
    "intersection": lambda annotators: annotators,
    "majority": lambda annotators: annotators // 2 + 1,
}
POLICIES = ("latest", *_VOTES)
_SEAM = 1.0  # pixels, the standard deviation of the Gaussian that softens a mask's edge


def annotation_mask(result: Sequence[Region], mapping: LabelMapping, width: int, height: int) -> Mask:
    """What an annotation's result says is irrelevant, bool of shape (height, width).

    Args:
        result: the annotation's `result`, as Label Studio's API and webhooks give it.
        mapping: what the project's labels mean.
        width: natural width of the sample's image, as stored at import.
        height: natural height.

    Raises:
        MaskError: a region cannot be used. A subclass tells why, and the message names the region.
    """
    irrelevant, relevant = painted_masks(result, mapping, width, height)
    return irrelevant | ~relevant if relevant.any() else irrelevant


def painted_masks(
    result: Sequence[Region], mapping: LabelMapping, width: int, height: int
) -> tuple[Mask, Mask]:
    """What was painted as irrelevant and what as relevant, each bool of shape (height, width).

    Raises:
        MaskError: as `annotation_mask`.
    """
    irrelevant = np.zeros((height, width), dtype=bool)
    relevant = np.zeros((height, width), dtype=bool)
    for name, items in painted_regions(result, mapping):
        try:
            meaning = mapping.says_irrelevant([label for item in items for label in labels_of(item)])
            if meaning is not None:
                target = irrelevant if meaning else relevant
                target |= _region_mask(items, width, height)
        except MaskError as error:
            raise type(error)(f"Region {name!r} cannot be used: {error}.") from error
    return irrelevant, relevant


def combine_masks(masks: Sequence[Mask], policy: str = "latest") -> Mask:
    """One mask, bool of shape (height, width), of several annotators' masks, oldest first.

    `latest` takes the last one; `union` what anybody, `intersection` what everybody and `majority`
    what more than half of them painted.

    Raises:
        MaskError: no masks, masks of several sizes, or a policy that is not in POLICIES.
    """
    if policy not in POLICIES:
        raise MaskError(f"There is no policy {policy!r}; choose one of {', '.join(POLICIES)}.")
    if not masks or len({mask.shape for mask in masks}) > 1:
        raise MaskError("Masks can only be combined if there is at least one, and all have the same size.")
    if policy == "latest":
        return masks[-1].copy()
    votes = np.zeros(masks[0].shape, dtype=np.uint16)
    for mask in masks:
        votes += mask
    return votes >= _VOTES[policy](len(masks))


def dice(one: Mask, other: Mask) -> float:
    """Agreement of two masks of one size, from 0 to 1 (Dice, 1945); two empty masks agree fully."""
    total = np.count_nonzero(one) + np.count_nonzero(other)
    return 2.0 * np.count_nonzero(one & other) / total if total else 1.0


def mask_coverage(mask: Mask, width: int, height: int) -> NDArray[np.float32]:
    """A mask made small: the masked share of the area under each pixel, 0..1, shape (height, width).

    Pixels lie as in Pillow's resize of the image itself, so mask and image stay in register.
    """
    share = Image.fromarray(mask.astype(np.float32)).resize((width, height), Image.Resampling.BOX)
    return np.asarray(share, np.float32).clip(0, 1)


def soft_edged(coverage: Image.Image) -> NDArray[np.uint8]:
    """The coverage of a mask, an image of 0..255, with a seam of about a pixel along its edge."""
    return np.asarray(coverage.filter(ImageFilter.GaussianBlur(_SEAM)))


def mask_to_png(mask: Mask) -> bytes:
    """A mask, bool of shape (height, width), as a PNG of 1 bit per pixel; white is True."""
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(mask, dtype=bool)).save(buffer, "PNG")
    return buffer.getvalue()


def mask_from_png(source: bytes | Path, width: int, height: int) -> Mask:
    """The mask, bool of shape (height, width), in a PNG; white is True.

    Raises:
        MaskSizeError: the PNG has another size; it is found before any pixel is decoded.
        BitmaskError: it is no PNG, or damaged.
        OSError: the file cannot be read, or is no regular one.
    """
    if isinstance(source, Path):
        regular_size(source)
        source = source.read_bytes()
    return painted(decode_png(source, width, height).convert("L"))


def mask_of_own_size(data: bytes) -> Mask:
    """The mask, bool of shape (height, width), in a PNG of whatever size.

    Raises:
        BitmaskError: it is no PNG, or damaged.
    """
    return mask_from_png(data, int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big"))


def _region_mask(items: Sequence[Region], width: int, height: int) -> Mask:
    """The pixels of one region; all its items draw the same, so the first one is taken."""
    item = items[0]
    for key, size in (("original_width", width), ("original_height", height)):
        if item.get(key) not in (None, size):
            raise MaskSizeError(
                f"{key} is {shortened(item[key])}, but the image has {width} x {height} pixels"
            )
    if item.get("item_index") not in (None, 0):
        raise RegionTypeError("it is not on the first image of a list of images")
    value = item.get("value")
    if not isinstance(value, Mapping):
        raise RegionTypeError("it has no value")
    for region_type in REGION_TYPES.values():
        if not region_type.keys.isdisjoint(value):
            return region_type.mask(value, width, height)
    raise RegionTypeError("it is empty: a draft, or a region of a video or of audio")
