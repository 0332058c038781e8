"""DICOM: one frame as it is meant to be looked at, and nothing of the patient but the PatientID.

pydicom is an extra (`pip install 'imil-backend[dicom]'`) and is imported when the first DICOM file is met.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imil_backend.errors import UnreadableImageError
from imil_backend.images.scaling import between, between_extremes

# No other element is read, so that no name, date or address ever reaches this process's memory as a value.
_ELEMENTS = [
    "PatientID",
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PlanarConfiguration"),
    *("PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept"),
    *("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"),
    *("RedPaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData"),
    *("GreenPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableData"),
    *("BluePaletteColorLookupTableDescriptor", "BluePaletteColorLookupTableData"),
    *("PixelData", "FloatPixelData", "DoubleFloatPixelData"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
]
_DEFLATED = b"1.2.840.10008.1.2.1.99"  # the whole data set is compressed: its size shows only afterwards


@dataclass(frozen=True)
class DicomImage:
    """One frame and whose it is."""

    pixels: NDArray[np.uint8]  # (height, width) or (height, width, 3)
    patient_id: str | None  # to be hashed at once, never stored or shown


def is_dicom(data: bytes) -> bool:
    """Whether this is a DICOM file (PS3.10: a preamble of 128 bytes, then DICM)."""
    return data[128:132] == b"DICM"


def read_dicom(data: bytes, name: str, *, check_size: Callable[[int, int], None]) -> DicomImage:
    """Decode a file of one frame.

    Grey: modality transformation, then VOI LUT or window, else from extreme to extreme; MONOCHROME1 inverted.

    Args:
        data: The file.
        name: What messages call it.
        check_size: Called with width and height before any pixel is decoded; raises if they are too large.

    Raises:
        UnreadableImageError: pydicom is missing, or the file holds no image, several frames, or is deflated.
    """
    pydicom = _import_pydicom(name)
    if _DEFLATED in data[:1024]:
        raise UnreadableImageError(f"{name} is deflated DICOM, which is not read; save it uncompressed.")
    header = pydicom.dcmread(io.BytesIO(data), specific_tags=_ELEMENTS)
    if "PixelData" not in header and "FloatPixelData" not in header and "DoubleFloatPixelData" not in header:
        raise UnreadableImageError(f"{name} is DICOM without an image in it.")
    frames = int(header.get("NumberOfFrames") or 1)
    if frames > 1:
        raise UnreadableImageError(f"{name} holds {frames} pages or frames; save each as a file of its own.")
    check_size(header.Columns, header.Rows)
    pixels = _colour(header) if _is_colour(header) else _grey(header)
    return DicomImage(pixels, str(header.get("PatientID") or "").strip() or None)


def _import_pydicom(name: str) -> ModuleType:
    try:
        import pydicom
        import pydicom.config
    except ImportError as error:
        raise UnreadableImageError(
            f"{name} is DICOM; to read it, run: pip install 'imil-backend[dicom]'"
        ) from error
    # Its warnings and log lines quote values of the header, which may be the patient's.
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    logging.getLogger("pydicom").propagate = False
    return pydicom


def _is_colour(header: Any) -> bool:
    return bool(header.PhotometricInterpretation == "PALETTE COLOR" or header.get("SamplesPerPixel", 1) > 1)


def _colour(header: Any) -> NDArray[np.uint8]:
    """(height, width, 3); pydicom turns YBR into RGB."""
    from pydicom.pixels.processing import apply_color_lut

    pixels = header.pixel_array
    if header.PhotometricInterpretation == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, header)
        return between(pixels, 0, np.iinfo(pixels.dtype).max)
    return between(pixels, 0, 2**header.BitsStored - 1)


def _grey(header: Any) -> NDArray[np.uint8]:
    """(height, width), dark to bright as on a light box."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi

    values = apply_modality_lut(header.pixel_array, header)
    if header.get("VOILUTSequence"):
        bits = header.VOILUTSequence[0].LUTDescriptor[2]
        pixels = between(apply_voi(values, header), 0, 2**bits - 1)
    elif _first(header.get("WindowWidth")):
        pixels = _window(
            values,
            _first(header.get("WindowCenter")),
            _first(header.WindowWidth),
            str(header.get("VOILUTFunction") or "LINEAR"),
        )
    else:
        pixels = between_extremes(values)
    return 255 - pixels if header.PhotometricInterpretation == "MONOCHROME1" else pixels


def _first(value: Any) -> float:
    """The first of one or several windows; 0.0 where there is none."""
    if isinstance(value, Sequence):  # pydicom's MultiValue
        value = value[0] if value else None
    return float(value) if value is not None else 0.0


def _window(values: NDArray[Any], center: float, width: float, function: str) -> NDArray[np.uint8]:
    """DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3, onto 0 to 255."""
    if function == "SIGMOID":
        return np.rint(255 / (1 + np.exp(-4 * (values - center) / width))).astype(np.uint8)
    if function == "LINEAR_EXACT":
        return between(values, center - width / 2, center + width / 2)
    half = max(width - 1, 0.001) / 2  # a width of 1 is a threshold
    return between(values, center - 0.5 - half, center - 0.5 + half)
