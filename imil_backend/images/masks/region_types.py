"""The kinds of regions that Label Studio draws, and the pixels that each covers.

A mask is boolean, of shape (height, width) at the image's natural size. A kind is known by what its value
holds, not by the type of its item: a tool's item and its label's share the value.
"""

from __future__ import annotations

import base64
import binascii
import io
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from imil_backend.errors import BitmaskError, MaskSizeError
from imil_backend.images.masks.rle import decode_rle
from imil_backend.images.masks.shapes import ellipse_mask, polygon_mask, rectangle_mask

Mask = NDArray[np.bool_]

PAINTED = 128  # alpha from which an anti-aliased pixel counts as painted


@dataclass(frozen=True)
class RegionType:
    """A kind of region.

    Attributes:
        keys: of its value; no other kind's value has one of them, but that a key point has a width.
        mask: its pixels, of its value and the image's natural width and height; raises a MaskError.
    """

    keys: frozenset[str]
    mask: Callable[[Mapping[str, Any], int, int], Mask]


def types_of_results() -> set[str]:
    """The types of a result's items: those of the tools, and of the labels that they are given."""
    return {tag.lower() for tag in painting_tags()}


def painting_tags() -> set[str]:
    """The tags of a labeling config that paint."""
    return {"Labels", *REGION_TYPES, *(f"{tag}Labels" for tag in REGION_TYPES)}


def _brush(value: Mapping[str, Any], width: int, height: int) -> Mask:
    return np.greater_equal(decode_rle(value["rle"], width, height), PAINTED)


def _bitmask(value: Mapping[str, Any], width: int, height: int) -> Mask:
    """The editor paints into the alpha channel."""
    url = value["imageDataURL"]
    head, _, text = url.partition(",") if isinstance(url, str) else ("", "", "")
    if head != "data:image/png;base64":
        raise BitmaskError("its image is not a PNG in a data URL")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BitmaskError("its image is not valid base64") from error
    image = decode_png(data, width, height)
    if not image.has_transparency_data:
        raise BitmaskError("its image has no transparency, which is where the editor paints")
    return painted(image.convert("RGBA").getchannel("A"))


def decode_png(data: bytes, width: int, height: int) -> Image.Image:
    """Decode a PNG after its header has been found to have the size asked for."""
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR" or len(data) < 24:
        raise BitmaskError("the mask is not a PNG")
    size = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if size != (width, height):
        raise MaskSizeError(f"the PNG has {size[0]} x {size[1]} pixels, not {width} x {height}")
    try:
        image = PngImagePlugin.PngImageFile(io.BytesIO(data))
        image.load()
    except (OSError, SyntaxError, ValueError, EOFError, zlib.error, IndexError) as error:
        raise BitmaskError("the PNG is damaged") from error
    return image


def painted(image: Image.Image) -> Mask:
    """Where a grey image, of shape (height, width), is painted."""
    return np.greater_equal(np.asarray(image, dtype=np.uint8), PAINTED)


# By the name of the tag that draws them, in the order in which they are looked for.
REGION_TYPES: dict[str, RegionType] = {
    "Brush": RegionType(frozenset({"rle"}), _brush),
    "MagicWand": RegionType(frozenset({"rle"}), _brush),
    "Bitmask": RegionType(frozenset({"imageDataURL"}), _bitmask),
    "Polygon": RegionType(frozenset({"points"}), polygon_mask),
    "Ellipse": RegionType(frozenset({"radiusX"}), ellipse_mask),
    "Rectangle": RegionType(frozenset({"width", "height"}), rectangle_mask),
}
