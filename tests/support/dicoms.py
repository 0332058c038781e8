"""DICOM files made for the tests: one frame, and whatever elements are to be tried."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)

UID = "1.2.826.0.1.3680043.8.498.1"
COLOURS = ("Red", "Green", "Blue")


def ramp(levels: int = 4096, rows: int = 48, columns: int = 64) -> np.ndarray:
    """From 0 to the last of so many levels, evenly, row by row."""
    return np.linspace(0, levels - 1, rows * columns).round().reshape(rows, columns).astype(np.uint16)


def dicom_bytes(
    pixels: np.ndarray | bytes,
    *,
    syntax: str = ExplicitVRLittleEndian,
    shape: tuple[int, ...] | None = None,
    **elements: object,
) -> bytes:
    """A file of 16-bit or 8-bit greys or 8-bit colours, with elements changed, added or (None) left out.

    Args:
        pixels: As they are stored; or bytes, with `shape` and what elements need saying.
        syntax: The transfer syntax; arrays and tables are written in its byte order.
        shape: Of the picture, where `pixels` are bytes.
        elements: Values by keyword; a tuple is a representation and a value.
    """
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    if isinstance(pixels, np.ndarray):
        shape = pixels.shape
        bits = 8 * pixels.dtype.itemsize
        pixels = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
        if bits == 8 and order == ">":
            pixels = in_words(pixels)
    else:
        bits = 16
    assert shape is not None
    grey = len(shape) == 2
    stored = elements.get("BitsStored") or elements.get("BitsAllocated") or bits
    assert isinstance(stored, int)
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = UID
    data.file_meta.TransferSyntaxUID = syntax
    data.SOPClassUID, data.SOPInstanceUID = SecondaryCaptureImageStorage, UID
    data.PatientID = "PAT-77"
    basic = {
        "Rows": shape[0],
        "Columns": shape[1],
        "SamplesPerPixel": 1 if grey else 3,
        "PhotometricInterpretation": "MONOCHROME2" if grey else "RGB",
        "PlanarConfiguration": None if grey else 0,
        "BitsAllocated": bits,
        "BitsStored": stored,
        "HighBit": stored - 1,
        "PixelRepresentation": 0,
        "PixelData": ("OW", pixels + b"\0" * (len(pixels) % 2)),
    }
    for keyword, value in {**basic, **elements}.items():
        if isinstance(value, tuple):
            data.add_new(keyword, *value)
        elif value is not None:
            setattr(data, keyword, value)
    if data.get("PixelData") is not None and syntax not in {
        ExplicitVRBigEndian,
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
    }:
        data["PixelData"].VR = "OB"
        data["PixelData"].is_undefined_length = True
    file = io.BytesIO()
    data.save_as(file, enforce_file_format=True)
    return file.getvalue()


def in_words(data: bytes) -> bytes:
    """Bytes as they lie in big endian words, the first of two in the low byte."""
    return np.frombuffer(data + b"\0" * (len(data) % 2), "<u2").astype(">u2").tobytes()


def words(values: Sequence[int] | np.ndarray, *, order: str = "<") -> bytes:
    """A table of one 16-bit word for each value."""
    return np.asarray(values, f"{order}u2").tobytes()


def packed(values: Sequence[int] | np.ndarray, *, order: str = "<") -> bytes:
    """A table of two 8-bit values in each 16-bit word, the first in the low byte."""
    data = np.asarray(values, np.uint8).tobytes()
    return in_words(data) if order == ">" else data + b"\0" * (len(data) % 2)


def table_item(data: bytes, count: int, *, first: int = 0, bits: int = 16) -> Dataset:
    """An item of a ModalityLUTSequence or VOILUTSequence."""
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [count % 65536, first, bits])
    item.add_new("LUTData", "OW", data)
    return item


def palette(
    tables: Sequence[bytes], count: int, *, first: int = 0, bits: int = 16, segmented: bool = False
) -> dict[str, object]:
    """Elements of a palette for red, green and blue."""
    elements: dict[str, object] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, table in zip(COLOURS, tables, strict=True):
        name = f"{colour}PaletteColorLookupTable"
        descriptor = [count % 65536, first, bits]
        elements[f"{name}Descriptor"] = ("SS" if first < 0 else "US", descriptor)
        elements[f"{'Segmented' if segmented else ''}{name}Data"] = ("OW", table)
    return elements
