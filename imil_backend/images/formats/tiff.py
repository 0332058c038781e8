"""TIFF: what Pillow reads, with what it reads wrongly or not at all repaired.

Greys whose zero is white are turned at every depth; samples of more than 8 bits come as they are stored, in
their byte order, also in planes; colour maps may hold 8-bit values.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, ImagePalette
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    COLORMAP,
    COMPRESSION,
    EXTRASAMPLES,
    FILLORDER,
    IMAGELENGTH,
    IMAGEWIDTH,
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    PREDICTOR,
    ROWSPERSTRIP,
    SAMPLEFORMAT,
    SAMPLESPERPIXEL,
    STRIPBYTECOUNTS,
    STRIPOFFSETS,
    TILEBYTECOUNTS,
    TILELENGTH,
    TILEOFFSETS,
    TILEWIDTH,
    ImageFileDirectory_v2,
    TiffImageFile,
)

from imil_backend.errors import UnreadableImageError
from imil_backend.images.formats.deep import stored_bytes

Directory = dict[int, tuple[int, ...]]  # a page's tags with their numbers

ASSOCIATED, UNASSOCIATED = 1, 2  # alpha that the colours are multiplied by; that they are not

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _CMYK = 0, 1, 2, 5
_COLOUR_CHANNELS = {_BLACK_IS_ZERO: 1, _RGB: 3, _CMYK: 4}
_FAX = {2, 3, 4, 32771}  # compressions whose zero is white unless the file says otherwise
_UNCOMPRESSED = 1
_FLOATING_POINT_PREDICTOR = 3
_KINDS = {1: "u", 2: "i", 3: "f"}  # of SampleFormat; there are no others for pictures
_ENTRY_BYTES, _LONG = 12, 4  # of a directory's entry; the type of its numbers
# What describes a plane by itself, when the strips or tiles are named.
_KEPT = (
    *(IMAGEWIDTH, IMAGELENGTH, COMPRESSION, FILLORDER, PREDICTOR, ROWSPERSTRIP, TILEWIDTH, TILELENGTH),
    ExifTags.Base.Orientation,
)
_PLACES = (STRIPOFFSETS, STRIPBYTECOUNTS, TILEOFFSETS, TILEBYTECOUNTS)  # of all planes, one after the other
# What Pillow is told instead, so that it lays out pixels of as many bytes: photometric interpretation, bits
# of the samples, extra samples.
_STAND_INS = {
    2: (_BLACK_IS_ZERO, (8, 8), (2,)),
    4: (_RGB, (8, 8, 8, 8), (2,)),
    6: (_RGB, (16, 16, 16), ()),
    8: (_RGB, (16, 16, 16, 16), (2,)),
}


@dataclass(frozen=True)
class Layout:
    """How pixels are stored that Pillow does not read as they are."""

    dtype: np.dtype[Any]
    samples: int  # of a pixel
    channels: int  # samples that are colours: grey, RGB or CMYK
    alpha: int | None  # of the sample after them: ASSOCIATED or UNASSOCIATED
    bits_reversed: bool  # of each byte
    in_planes: bool  # all reds, then all greens, ...

    @property
    def pixel_bytes(self) -> int:
        """Of all samples that lie together."""
        return (1 if self.in_planes else self.samples) * self.dtype.itemsize


class TiffFile(TiffImageFile):
    """One page of a TIFF."""

    white_is_zero = False  # the pixels come as stored, and are to be turned
    layout: Layout | None = None  # if there is one, `stored_samples` gives the pixels
    planes: Sequence[Directory] = ()  # that are needed, if there are several; each by itself

    def _setup(self) -> None:
        """Called by Pillow when it has read the tags, which say how the pixels are decoded."""
        tags = self.tag_v2
        what = _in_words(tags)
        if tags.get(SAMPLESPERPIXEL, 1) == 1:
            tags[PLANAR_CONFIGURATION] = 1  # one plane is one plane
        tags[PHOTOMETRIC_INTERPRETATION] = _photometric(tags)
        if tags[PHOTOMETRIC_INTERPRETATION] == _WHITE_IS_ZERO:
            self.white_is_zero = True
            tags[PHOTOMETRIC_INTERPRETATION] = _BLACK_IS_ZERO
        try:
            self.layout = _layout(tags)
            if self.layout:
                self.planes = _planes(tags, self.layout) if self.layout.in_planes else []
                _stand_in(tags, self.layout)
            super()._setup()
        except (SyntaxError, KeyError) as error:  # Pillow has no such mode
            raise UnreadableImageError(
                f"{self.filename!s} is a TIFF of an unsupported kind ({what}); save it as PNG, or "
                "with 8 or 16 bits per sample, interleaved."
            ) from error
        if self.mode in {"P", "PA"} and max(tags[COLORMAP]) < 256:
            # As libtiff does: a map without any value above 255 was written with 8-bit values.
            self.palette = ImagePalette.raw("RGB;L", bytes(tags[COLORMAP]))


def stored_samples(data: bytes, image: TiffFile, layout: Layout) -> NDArray[Any]:
    """The samples of an image as stored: (height, width, samples)."""
    if image.planes:
        files = [_with_directory(data, directory) for directory in image.planes]
        return np.concatenate([_only_plane(file, str(image.filename)) for file in files], axis=2)
    pixels = stored_bytes(image, lambda: TiffFile(io.BytesIO(data), image.filename), layout.pixel_bytes)
    if layout.bits_reversed:
        pixels = np.packbits(np.unpackbits(pixels, bitorder="little")).reshape(pixels.shape)
    samples: NDArray[Any] = pixels.view(layout.dtype)
    return samples


def _only_plane(data: bytes, name: str) -> NDArray[Any]:
    with TiffFile(io.BytesIO(data), name) as plane:
        if plane.layout is None:
            raise SyntaxError("a plane of another kind")
        return stored_samples(data, plane, plane.layout)


def _planes(tags: ImageFileDirectory_v2, layout: Layout) -> list[Directory]:
    """Directories of single planes: of the colours, and of alpha."""
    planes: list[Directory] = []
    for number in range(layout.channels + (layout.alpha is not None)):
        plane: Directory = {tag: (int(tags[tag]),) for tag in _KEPT if tag in tags}
        for tag in _PLACES:
            if tag in tags:
                count = len(tags[tag]) // layout.samples
                plane[tag] = tags[tag][number * count : (number + 1) * count]
        plane[BITSPERSAMPLE] = (8 * layout.dtype.itemsize,)
        plane[SAMPLEFORMAT] = (next(code for code, kind in _KINDS.items() if kind == layout.dtype.kind),)
        plane[SAMPLESPERPIXEL] = (1,)
        plane[PHOTOMETRIC_INTERPRETATION] = (_BLACK_IS_ZERO,)
        planes.append(plane)
    return planes


def _with_directory(data: bytes, directory: Directory) -> bytes:
    """A file with another directory, behind everything else."""
    order = ">" if data.startswith(b"MM") else "<"
    place = len(data) + len(data) % 2
    header = data[:2] + struct.pack(f"{order}HI", 42, place)
    entries = struct.pack(f"{order}H", len(directory))
    numbers = b""  # that do not fit into their entries
    for tag, values in sorted(directory.items()):
        body = struct.pack(f"{order}{len(values)}I", *values)
        if len(values) > 1:
            end = place + 2 + _ENTRY_BYTES * len(directory) + 4
            numbers, body = numbers + body, struct.pack(f"{order}I", end + len(numbers))
        entries += struct.pack(f"{order}HHI", tag, _LONG, len(values)) + body
    return header + data[len(header) :].ljust(place - len(header), b"\0") + entries + bytes(4) + numbers


def _photometric(tags: ImageFileDirectory_v2) -> int:
    """The photometric interpretation; where it is missing, as libtiff guesses it."""
    if PHOTOMETRIC_INTERPRETATION in tags:
        return int(tags[PHOTOMETRIC_INTERPRETATION])
    if tags.get(SAMPLESPERPIXEL, 1) >= 3:
        return _RGB
    return _WHITE_IS_ZERO if tags.get(COMPRESSION, _UNCOMPRESSED) in _FAX else _BLACK_IS_ZERO


def _layout(tags: ImageFileDirectory_v2) -> Layout | None:
    """How the pixels are stored, unless Pillow reads them as they are: up to 8 bits, and 12.

    Raises:
        SyntaxError: no raw mode fits.
    """
    samples = tags.get(SAMPLESPERPIXEL, 1)
    bits, kinds = set(tags.get(BITSPERSAMPLE, (1,))), set(tags.get(SAMPLEFORMAT, (1,)))
    if max(bits) <= 8 or bits == {12}:  # a sign of 8 bits is not looked at: files have the tag and no sign
        return None
    channels = _COLOUR_CHANNELS.get(tags[PHOTOMETRIC_INTERPRETATION])
    # libtiff itself writes and reads these two together in different byte orders.
    muddled = tags.get(PREDICTOR) == _FLOATING_POINT_PREDICTOR and tags.prefix == b"MM"
    if len(bits) > 1 or len(kinds) > 1 or channels is None or samples < channels or muddled:
        raise SyntaxError("unknown pixel mode")
    compressed = tags.get(COMPRESSION, _UNCOMPRESSED) != _UNCOMPRESSED  # libtiff mends order and bits then
    layout = Layout(
        dtype=_dtype("=" if compressed else "<>"[tags.prefix == b"MM"], *bits, *kinds),
        samples=samples,
        channels=channels,
        alpha=_alpha(tags) if samples > channels else None,
        bits_reversed=tags.get(FILLORDER, 1) == 2 and not compressed,
        in_planes=tags.get(PLANAR_CONFIGURATION, 1) != 1,
    )
    if layout.pixel_bytes not in _STAND_INS:
        raise SyntaxError("unknown pixel mode")
    return layout


def _dtype(order: str, bits: int, kind: int) -> np.dtype[Any]:
    try:
        return np.dtype(f"{order}{_KINDS.get(kind, 'u')}{bits / 8:g}")
    except TypeError as error:
        raise SyntaxError("unknown pixel mode") from error


def _alpha(tags: ImageFileDirectory_v2) -> int | None:
    first = next(iter(tags.get(EXTRASAMPLES, ())), 0)
    return first if first in {ASSOCIATED, UNASSOCIATED} else None


def _stand_in(tags: ImageFileDirectory_v2, layout: Layout) -> None:
    """Tell Pillow of pixels of as many bytes in a mode that it has."""
    photometric, bits, extra = _STAND_INS[layout.pixel_bytes]
    tags[PHOTOMETRIC_INTERPRETATION] = photometric
    tags[BITSPERSAMPLE] = bits
    tags[SAMPLESPERPIXEL] = len(bits)
    tags[EXTRASAMPLES] = extra
    tags[SAMPLEFORMAT] = (1,)
    tags[FILLORDER] = 1
    tags[PLANAR_CONFIGURATION] = 1


def _in_words(tags: ImageFileDirectory_v2) -> str:
    bits = " + ".join(str(each) for each in tags.get(BITSPERSAMPLE, (1,))[:5])
    kinds = {1: "", 2: "signed ", 3: "floating point "}
    kind = kinds.get(max(tags.get(SAMPLEFORMAT, (1,))), "")
    planes = " in planes" if tags.get(PLANAR_CONFIGURATION, 1) != 1 else ""
    photometric = tags.get(PHOTOMETRIC_INTERPRETATION, "missing")
    return f"{bits} {kind}bits{planes}, photometric interpretation {photometric}"
