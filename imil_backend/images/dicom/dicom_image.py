"""DICOM: one frame as it is meant to be looked at, and nothing of the patient but the PatientID.

pydicom is an extra (`pip install 'imil-backend[dicom]'`) and is imported when the first DICOM file is met.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imil_backend.images.dicom.greys import show_greys
from imil_backend.images.dicom.header import Elements, is_dicom, open_dicom
from imil_backend.images.dicom.lookup_tables import palette
from imil_backend.images.dicom.pixels import (
    PixelFormat,
    check_frames,
    count_levels,
    decode_cells,
    pixel_format,
)
from imil_backend.images.intensity.scaling import Window, between

__all__ = ["DicomImage", "is_dicom", "read_dicom"]

_NARROW, _WIDE = 4, 48  # bytes of a sample from decoded to shown: up to 16 bits by a table, more by each


@dataclass(frozen=True)
class DicomImage:
    """One frame, what of it is shown, and whose it is."""

    pixels: NDArray[np.uint8]  # (height, width) or (height, width, 3)
    patient_id: str | None  # to be hashed at once, never stored or shown
    stored_levels: int  # distinct values (in colour: of all samples) before any transformation, 256 at most
    window: Window | None  # that is shown; None: the VOI LUT, the extremes, or colour
    deep: bool  # grey of more than 8 bits, for which a window may be asked
    as_stored: bool  # colours that no window and no table has changed


def read_dicom(
    data: bytes, name: str, *, check_size: Callable[[int, int, int], None], window: Window | None = None
) -> DicomImage:
    """Decode a file of one frame.

    Grey: modality transformation, then VOI LUT, else the first whole window, else from extreme to extreme;
    MONOCHROME1 inverted; padding is black and no extreme.

    Args:
        data: The file.
        name: What messages call it.
        check_size: Called with width, height and the bytes that decoding takes for a pixel, before any is
            decoded; raises if they are too large.
        window: To be shown of grey images of more than 8 bits instead of what the header says; in values
            after the modality transformation.

    Raises:
        UnreadableImageError: with the reason: pydicom is missing, or the file holds no image, several frames,
            a compression that is not read, is damaged, or contradicts itself.
    """
    file = open_dicom(data, name)
    check_frames(file.header)
    layout = pixel_format(file)
    check_size(layout.columns, layout.rows, _pixel_bytes(layout, compressed=file.encapsulated))
    cells = decode_cells(file, layout)
    grey = layout.photometric in {"MONOCHROME1", "MONOCHROME2"}
    deep = grey and (layout.floats or layout.stored > 8)
    if grey:
        pixels, levels, window = show_greys(cells, layout, file.header, window if deep else None)
    else:
        pixels, window = _colour(cells, layout, file.header), None
        levels = count_levels(cells, layout)
    as_stored = not grey and layout.photometric != "PALETTE COLOR"
    return DicomImage(pixels, file.header.patient_id(), levels, window, deep, as_stored)


def _pixel_bytes(layout: PixelFormat, *, compressed: bool) -> int:
    """What decoding takes at its peak for a pixel, as measured."""
    cells = layout.samples * max(layout.allocated, 8) // 8
    decoding = (8 if compressed else 3) * cells
    return decoding + (_WIDE if layout.allocated > 16 else _NARROW) * layout.samples


def _colour(cells: NDArray[Any], layout: PixelFormat, header: Elements) -> NDArray[np.uint8]:
    """(height, width, 3)."""
    if layout.photometric == "PALETTE COLOR":
        stored = layout.values(cells)
        tables, full = palette(header, negative=layout.signed)
        return np.stack([between(table.entries, 0, full)[table.places(stored)] for table in tables], axis=2)
    if layout.limits == (0, 255) and layout.allocated == 8:
        return cells
    return between(layout.values(cells), *layout.limits)
