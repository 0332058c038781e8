"""The stored pixels of a DICOM file: decompressed, one frame, and what their bits mean (PS3.5 chapter 8)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imil_backend.errors import UnreadableImageError
from imil_backend.images.dicom.codestream import DamagedError, Size, check_frame
from imil_backend.images.dicom.header import DicomFile, Elements

LEVELS_CAP = 256  # more distinct values are not counted
_GREY = frozenset({"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"})
_COLOUR = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"})
_VIDEO = re.compile(r"MPEG|HEVC|SMPTE")
_FLOATS = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}  # and their bits


@dataclass(frozen=True)
class PixelFormat:
    """What the header says about the pixels, free of contradictions."""

    rows: int
    columns: int
    samples: int  # 1 or 3
    photometric: str
    planar: int  # 1: one plane for each of three samples
    allocated: int  # bits of a cell: 1, 8, 16 or 32; 32 or 64 for floats
    stored: int  # bits of it that hold the value
    high_bit: int  # the highest of these
    signed: bool
    floats: bool

    def values(self, cells: NDArray[Any]) -> NDArray[Any]:
        """The stored values in cells of any shape, without what lies above or below a value's bits."""
        if self.floats:
            return cells
        values = (cells.astype(np.int64) >> (self.high_bit + 1 - self.stored)) & ((1 << self.stored) - 1)
        return self.with_sign(values, self.stored)

    @property
    def limits(self) -> tuple[int, int]:
        """The smallest and the largest value that whole numbers may have."""
        low = -(1 << (self.stored - 1)) if self.signed else 0
        return low, low + (1 << self.stored) - 1

    def with_sign(self, values: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
        """Values of so many bits, read as the two's complement where the pixels are signed."""
        sign = 1 << (bits - 1) if self.signed else 0
        return (values ^ sign) - sign


def pixel_format(file: DicomFile) -> PixelFormat:
    """What the header says about the pixels.

    Raises:
        UnreadableImageError: it says too little, contradicts itself, or something that is not read.
    """
    header = file.header
    floats = file.keyword in _FLOATS
    photometric = header.text("PhotometricInterpretation")
    _require(photometric, header, "lacks PhotometricInterpretation")
    _require(
        photometric in _GREY | _COLOUR,
        header,
        f"has {_term(photometric)} as PhotometricInterpretation, which is not supported",
    )
    _require(photometric.startswith("MONOCHROME") or not floats, header, "has floating-point colours")
    samples = header.integer("SamplesPerPixel", 1 if photometric in _GREY else 3)
    planar = header.integer("PlanarConfiguration", 0) if samples == 3 else 0
    _require(
        samples == (1 if photometric in _GREY else 3) and planar in {0, 1},
        header,
        "has SamplesPerPixel, PlanarConfiguration and PhotometricInterpretation that contradict each other",
    )
    allocated = _FLOATS.get(file.keyword) or header.integer("BitsAllocated")
    _require(
        floats or allocated in {1, 8, 16, 32},
        header,
        f"has {allocated} bits per pixel, which are not supported",
    )
    stored = allocated if floats else header.integer("BitsStored")
    high_bit = stored - 1 if floats else header.integer("HighBit", stored - 1)
    _require(
        0 < stored <= allocated and stored - 1 <= high_bit < allocated,
        header,
        "has BitsAllocated, BitsStored and HighBit that contradict each other",
    )
    signed = 0 if floats or allocated == 1 else header.integer("PixelRepresentation")
    _require(signed in {0, 1}, header, "has an unknown PixelRepresentation")
    rows, columns = header.integer("Rows"), header.integer("Columns")
    _require(rows > 0 and columns > 0, header, "has no Rows or no Columns")
    return PixelFormat(
        rows, columns, samples, photometric, planar, allocated, stored, high_bit, bool(signed), floats
    )


def check_frames(header: Elements) -> None:
    """There is one frame.

    Raises:
        UnreadableImageError: there are several.
    """
    frames = header.integer("NumberOfFrames", 1)
    if frames > 1:
        raise UnreadableImageError(
            f"{header.name} holds {frames} pages or frames; save each as a separate file."
        )


def decode_cells(file: DicomFile, layout: PixelFormat) -> NDArray[Any]:
    """The cells of the one frame, decompressed; in colour as RGB.

    Returns:
        (rows, columns) or (rows, columns, 3), unsigned whole numbers with all bits of a cell, or floats.

    Raises:
        UnreadableImageError: the compression is not known or its decoder not installed, or the pixels are
            damaged or cut off.
    """
    decoder = _decoder(file)
    if file.encapsulated:
        _check_compressed(file, layout)
    pixels = file.pixels if file.encapsulated else _native_frame(file, layout)
    options = {
        "rows": layout.rows,
        "columns": layout.columns,
        "number_of_frames": 1,
        "samples_per_pixel": layout.samples,
        "photometric_interpretation": layout.photometric,
        "planar_configuration": layout.planar,
        "bits_allocated": layout.allocated,
        "bits_stored": layout.stored,
        "pixel_representation": int(layout.signed),
        "pixel_keyword": file.keyword,
        "correct_unused_bits": False,  # it takes them to be the highest always
        "as_rgb": True,
    }
    try:
        cells, properties = decoder(pixels, index=0, **options)
    except MemoryError:
        raise
    except Exception as error:  # a decoder may raise anything when the bytes are damaged
        raise UnreadableImageError(
            f"{file.header.name} is truncated or damaged: its pixels ({file.syntax.name}) cannot be decoded."
        ) from error
    if layout.samples == 3 and properties["photometric_interpretation"] != "RGB":
        raise UnreadableImageError(
            f"{file.header.name} is DICOM with {layout.photometric} pixels stored as "
            f"{file.syntax.name}, which is not supported."
        )
    cells = np.ascontiguousarray(cells, cells.dtype.newbyteorder("="))
    return cells if layout.floats else cells.view(f"u{cells.dtype.itemsize}")


def count_levels(cells: NDArray[Any], layout: PixelFormat) -> int:
    """How many distinct values are stored in cells of any shape, at most LEVELS_CAP."""
    if cells.dtype.kind == "u" and cells.dtype.itemsize <= 2:
        present = np.zeros(1 << (8 * cells.dtype.itemsize), bool)
        present[cells] = True
        cells = np.flatnonzero(present)
    flat = cells.reshape(-1)
    levels = np.unique(layout.values(flat[:: flat.size // 4096 + 1]))
    if levels.size < LEVELS_CAP:
        levels = np.unique(layout.values(flat))
    return min(int(levels.size), LEVELS_CAP)


def _decoder(file: DicomFile) -> Callable[..., tuple[NDArray[Any], dict[str, Any]]]:
    """pydicom's, for the file's transfer syntax."""
    from pydicom.pixels.decoders.base import get_decoder

    name, syntax = file.header.name, file.syntax
    if _VIDEO.search(syntax.name):
        raise UnreadableImageError(
            f"{name} is DICOM video ({syntax.name}); save each frame as a separate file."
        )
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        how = "in an unknown way" if syntax.name == syntax else f"as {syntax.name}"
        raise UnreadableImageError(
            f"{name} is DICOM compressed {how}, which is not supported; save it uncompressed."
        ) from error
    if decoder.is_encapsulated != file.encapsulated:
        raise UnreadableImageError(
            f"{name} is DICOM whose header says {syntax.name}, and its pixels are "
            f"{'compressed' if file.encapsulated else 'not'}."
        )
    if not decoder.is_available:
        raise UnreadableImageError(
            f"{name} is DICOM compressed as {syntax.name}; to read it, run: pip install 'imil-backend[dicom]'"
        )
    return decoder.as_array


def _check_compressed(file: DicomFile, layout: PixelFormat) -> None:
    """That the frame is as large as the header says: a decoder takes memory by what the frame says."""
    from pydicom.encaps import get_frame

    try:
        frame = get_frame(file.pixels, 0, number_of_frames=1)
        size = Size(layout.columns, layout.rows, layout.samples)
        check_frame(frame, str(file.syntax), size, layout.allocated // 8)
    except MemoryError:
        raise
    except Exception as error:  # pydicom may raise anything when the bytes are damaged
        why = f": {error}" if isinstance(error, DamagedError) else ""
        raise UnreadableImageError(
            f"{file.header.name} is truncated or damaged: its pixels ({file.syntax.name}) cannot be decoded"
            f"{why}."
        ) from error


def _native_frame(file: DicomFile, layout: PixelFormat) -> bytes:
    """The bytes of the frame, without padding."""
    name, there = file.header.name, len(file.pixels)
    whole = -(-layout.rows * layout.columns * layout.samples * layout.allocated // 8)
    needed = whole // 3 * 2 if layout.photometric == "YBR_FULL_422" else whole
    if there < needed:
        raise UnreadableImageError(
            f"{name} is truncated or damaged: its header promises {needed:,} bytes of pixels, "
            f"and {there:,} are there."
        )
    _require(
        needed == whole or there < whole,
        file.header,
        "says YBR_FULL_422, where two pixels share a colour, and has as many bytes as if none did",
    )
    if there >= 2 * needed and there > needed + 1:
        raise UnreadableImageError(
            f"{name} holds the pixels of {there // needed} frames, but its header declares one."
        )
    frame = file.pixels[: needed + needed % 2]
    big_endian_words = file.representation == "OW" and not file.syntax.is_little_endian
    _require(
        not big_endian_words or layout.allocated <= 16,
        file.header,
        "has 32 bits a pixel in big endian words, whose order programs disagree on; save it as little endian",
    )
    swapped = big_endian_words and layout.allocated <= 8
    return np.frombuffer(frame, ">u2").astype("<u2").tobytes() if swapped else frame


def _require(met: object, header: Elements, problem: str) -> None:
    if not met:
        raise UnreadableImageError(f"{header.name} is DICOM that {problem}.")


def _term(photometric: str) -> str:
    """It as messages may quote it: only what the standard knows, for it might be anything."""
    from pydicom.pixels.common import PhotometricInterpretation

    known = {str(term) for term in PhotometricInterpretation} - {""}
    return photometric if photometric in known else "an unknown term"
