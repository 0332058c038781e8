"""From stored values to what a viewer shows (PS3.3 C.11).

First the modality transformation, then VOI LUT, window or extremes, then polarity and padding.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imil_backend.errors import UnreadableImageError
from imil_backend.images.dicom.header import Elements
from imil_backend.images.dicom.lookup_tables import first_table
from imil_backend.images.dicom.pixels import PixelFormat, count_levels
from imil_backend.images.intensity.scaling import Window, between, between_extremes, windowed

_TABLED_BITS = 16  # of cells whose values are all transformed, once each, and then looked up


def show_greys(
    cells: NDArray[Any], layout: PixelFormat, header: Elements, window: Window | None
) -> tuple[NDArray[np.uint8], int, Window | None]:
    """Dark to bright as on a light box; what is no part of the picture is black.

    Args:
        cells: (rows, columns), as decoded.
        layout: What their bits mean.
        header: The file's.
        window: To be shown instead of what the header says.

    Returns:
        The greys, of the shape of `cells`; the number of distinct stored values (`count_levels`); and the
        window that was shown, None where a VOI LUT or the extremes were.

    Raises:
        UnreadableImageError: the header's transformation is damaged or leaves nothing.
    """
    if layout.floats or 8 * cells.dtype.itemsize > _TABLED_BITS:
        stored = layout.values(cells)
        greys, shown = _greys(cells, stored, np.ones(cells.shape, bool), layout, header, window)
        return greys, count_levels(cells, layout), shown
    every = np.arange(1 << (8 * cells.dtype.itemsize), dtype=cells.dtype)
    present = np.zeros(every.shape, bool)
    present[cells] = True
    stored = layout.values(every)
    greys, shown = _greys(every, stored, present, layout, header, window)
    return greys[cells], count_levels(every[present], layout), shown


def _greys(
    cells: NDArray[Any],
    stored: NDArray[Any],
    present: NDArray[np.bool_],
    layout: PixelFormat,
    header: Elements,
    window: Window | None,
) -> tuple[NDArray[np.uint8], Window | None]:
    """Greys of cells and their stored values, all of one shape, of which some are present in the picture."""
    outside = np.isnan(stored) | _padding(cells, stored, layout, header)
    values = _modality(stored, layout, header)
    function = "LINEAR" if window else header.text("VOILUTFunction")
    table = None if window else first_table(header, "VOILUTSequence", negative=bool(values.min() < 0))
    window = window or (_first_window(header, function) if table is None else None)
    if table is not None:
        greys = between(table.look_up(values), 0, int(table.entries.max()))
    elif window is not None:
        greys = windowed(values, window, function)
    else:
        greys = between_extremes(values, present & ~outside)
    if _is_inverse(layout, header):
        greys = 255 - greys
    greys[outside] = 0
    return greys, window


def _padding(
    cells: NDArray[Any], stored: NDArray[Any], layout: PixelFormat, header: Elements
) -> NDArray[np.bool_]:
    """Where there is no picture: PixelPaddingValue, or from there to PixelPaddingRangeLimit.

    Both are often written as unsigned where the pixels are signed, or need more bits than are stored.
    """
    prefix = {(True, 32): "Float", (True, 64): "DoubleFloat"}.get((layout.floats, layout.allocated), "")
    first = header.number(f"{prefix}PixelPaddingValue")
    if first is None:
        return np.zeros(stored.shape, bool)
    limit = header.number(f"{prefix}PixelPaddingRangeLimit")
    ends = [first, first if limit is None else limit]
    if layout.floats:
        return np.asarray((stored >= min(ends)) & (stored <= max(ends)))
    bits = 8 * cells.dtype.itemsize
    raw = np.array([int(end) % (1 << bits) for end in ends])
    low, high = sorted(layout.with_sign(raw, bits))
    return np.asarray(((stored >= low) & (stored <= high)) | (cells == raw[0]))


def _modality(stored: NDArray[Any], layout: PixelFormat, header: Elements) -> NDArray[Any]:
    """The values in the unit that a window is given in, such as Hounsfield units."""
    table = first_table(header, "ModalityLUTSequence", negative=layout.signed)
    if table is not None:
        return table.look_up(stored)
    slope, intercept = header.number("RescaleSlope"), header.number("RescaleIntercept")
    if slope == 0:
        raise UnreadableImageError(
            f"{header.name} is DICOM whose RescaleSlope is 0, which leaves a single grey."
        )
    if slope is None or intercept is None:  # dcmtk and pydicom ignore a single one, too
        return stored
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(stored * slope + intercept)


def _first_window(header: Elements, function: str) -> Window | None:
    """The first that has a centre and a width that its function allows."""
    least = 0 if function in {"LINEAR_EXACT", "SIGMOID"} else 1
    for center, width in zip(header.numbers("WindowCenter"), header.numbers("WindowWidth"), strict=False):
        if center is None or width is None or not math.isfinite(center):
            continue
        if 0 < width < math.inf and width >= least:
            return Window(center, width)
    return None


def _is_inverse(layout: PixelFormat, header: Elements) -> bool:
    """Whether low values are bright; PresentationLUTShape is the more particular of the two that say so."""
    shape = header.text("PresentationLUTShape")
    return shape == "INVERSE" if shape in {"IDENTITY", "INVERSE"} else layout.photometric == "MONOCHROME1"
