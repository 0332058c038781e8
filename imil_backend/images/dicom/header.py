"""The header of a DICOM file: its elements as plain numbers and texts, and which files hold no image.

Values are converted here and not by pydicom, which gives up on a whole element where one of its values is
empty or no number. An element that is there and empty is an absent one.
"""

from __future__ import annotations

import io
import logging
import math
import struct
import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from imil_backend.errors import UnreadableImageError

# No other element is read, so that no name, date or address ever reaches this process's memory as a value.
_ELEMENTS = [
    *("SOPClassUID", "PatientID"),
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PlanarConfiguration"),
    *("PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("FloatPixelPaddingValue", "FloatPixelPaddingRangeLimit"),
    *("DoubleFloatPixelPaddingValue", "DoubleFloatPixelPaddingRangeLimit"),
    *("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept"),
    *("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction", "PresentationLUTShape"),
    *(
        f"{kind}PaletteColorLookupTable{part}"
        for colour in ("Red", "Green", "Blue")
        for kind, part in ((colour, "Descriptor"), (colour, "Data"), (f"Segmented{colour}", "Data"))
    ),
]
_PIXELS = frozenset({"PixelData", "FloatPixelData", "DoubleFloatPixelData"})
_DEFLATED = "1.2.840.10008.1.2.1.99"  # the whole data set is compressed: its size shows only afterwards
_PREFIX = slice(128, 132)
_ITEMS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")  # how one begins, in both byte orders
_MOST_ITEMS = 20_000  # of each pydicom makes a data set; a frame has a hundred, and fragments of its pixels
_BARE_ELEMENTS = 4  # so many in order, each within the file, are no accident
_LONG_LENGTHS = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
_SHORT_LENGTHS = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL"}
    | {b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}
)
_UNDEFINED = 0xFFFFFFFF
_MOST_VALUE_BYTES = 2**18  # of numbers that are looked at; a lookup table has half of that at most
_BINARY = {"US": "u2", "SS": "i2", "UL": "u4", "SL": "i4", "FL": "f4", "FD": "f8"}


class Elements:
    """Elements of a data set, or of an item of a sequence in it."""

    def __init__(self, dataset: Any, name: str) -> None:
        """`dataset` is pydicom's, with values as read; `name` is what messages call the file."""
        self._dataset = dataset
        self.name = name

    def numbers(self, keyword: str) -> list[float | None]:
        """All values of an element: None where one is empty, NaN where it is not a number.

        Raises:
            UnreadableImageError: they are too many.
        """
        element = self._dataset.get_item(keyword)
        if element is None or not element.value:
            return []
        if len(element.value) > _MOST_VALUE_BYTES:
            raise UnreadableImageError(
                f"{self.name} is damaged: its {keyword} has {len(element.value):,} bytes."
            )
        kind = _BINARY.get(_representation(element).removesuffix(" or SS"))
        if kind is not None:
            dtype = np.dtype(kind).newbyteorder("<" if element.is_little_endian else ">")
            whole = len(element.value) - len(element.value) % dtype.itemsize
            return np.frombuffer(element.value[:whole], dtype).tolist()  # type: ignore[no-any-return]
        return [_number(text) for text in _text(element.value).split("\\")]

    def number(self, keyword: str) -> float | None:
        """The first value of an element, None if there is none.

        Raises:
            UnreadableImageError: it is not a finite number.
        """
        value = next(iter(self.numbers(keyword)), None)
        if value is not None and not math.isfinite(value):
            raise UnreadableImageError(f"{self.name} is DICOM whose {keyword} is not a number.")
        return value

    def integer(self, keyword: str, default: int | None = None) -> int:
        """The first value of an element.

        Raises:
            UnreadableImageError: it is not a whole number, or is not there and has no default.
        """
        value = self.number(keyword)
        if value is None and default is not None:
            return default
        if value is None or value != int(value):
            problem = "lacks" if value is None else "has no whole number as"
            raise UnreadableImageError(f"{self.name} is DICOM that {problem} {keyword}.")
        return int(value)

    def text(self, keyword: str) -> str:
        """The value of an element, empty if there is none."""
        element = self._dataset.get_item(keyword)
        return "" if element is None or not element.value else _text(element.value).strip(" \0")

    def items(self, keyword: str) -> list[Elements]:
        """The items of a sequence that have something in them."""
        element = self._dataset.get(keyword)
        return [Elements(item, self.name) for item in element or () if len(item)]

    def table(self, keyword: str) -> bytes:
        """The bytes of a table of 16-bit words, the low byte of each first."""
        element = self._dataset.get_item(keyword)
        if element is None or not element.value:
            return b""
        if element.is_little_endian or _representation(element) == "OB":
            return bytes(element.value)
        whole = len(element.value) - len(element.value) % 2
        return np.frombuffer(element.value[:whole], ">u2").astype("<u2").tobytes()

    def patient_id(self) -> str | None:
        """To be hashed at once, never stored or shown."""
        return str(self._dataset.get("PatientID") or "").strip() or None


@dataclass(frozen=True)
class DicomFile:
    """An opened file: its header, and its pixels as they are stored."""

    header: Elements
    syntax: Any  # pydicom's UID of the transfer syntax
    keyword: str  # PixelData, FloatPixelData or DoubleFloatPixelData
    pixels: bytes
    representation: str | None  # of the pixels' element; None where the header does not say
    encapsulated: bool  # the pixels are in items, as compressed ones are


class _RawElement(NamedTuple):
    tag: int
    representation: str | None
    start: int  # of its value
    length: int  # of it; _UNDEFINED where only a delimiter ends it


def is_dicom(data: bytes) -> bool:
    """Whether this is a DICOM file (PS3.10: a preamble of 128 bytes, then DICM), or a bare data set."""
    return data[_PREFIX] == b"DICM" or any(
        _begins_with_elements(data, order, explicit)
        for order, explicit in (("<", True), ("<", False), (">", True))
    )


def open_dicom(data: bytes, name: str) -> DicomFile:
    """Read the header, and find the pixels.

    Raises:
        UnreadableImageError: pydicom is missing, or the file is deflated, cut off or holds no image.
    """
    pydicom = _import_pydicom(name)
    file = io.BytesIO(data)
    _refuse_deflated(file, name)
    if max(data.count(each) for each in _ITEMS) > _MOST_ITEMS:
        raise UnreadableImageError(f"{name} is DICOM with more than {_MOST_ITEMS:,} items of sequences.")
    dataset = pydicom.dcmread(file, force=True, stop_before_pixels=True, specific_tags=_ELEMENTS)
    place = file.tell()  # of the pixels, or the end
    explicit = data[place + 4 : place + 6] in _LONG_LENGTHS  # whatever the header says: no length looks so
    element = _element_at(data, place, "<" if dataset.original_encoding[1] else ">", explicit)
    keyword = pydicom.datadict.keyword_for_tag(element.tag) if element else ""
    if element is None or keyword not in _PIXELS:
        raise UnreadableImageError(f"{name} is DICOM without an image in it{_what_it_is(dataset)}.")
    encapsulated = element.length == _UNDEFINED
    return DicomFile(
        Elements(dataset, name),
        _syntax(dataset, name, encapsulated=encapsulated),
        keyword,
        data[element.start : None if encapsulated else element.start + element.length],
        element.representation,
        encapsulated,
    )


def _refuse_deflated(file: io.BytesIO, name: str) -> None:
    """By the transfer syntax as pydicom reads it, wherever it stands: it would inflate the rest unbounded."""
    from pydicom.filereader import _read_file_meta_info, read_preamble

    read_preamble(file, force=True)
    syntax = _read_file_meta_info(file).get("TransferSyntaxUID")
    if syntax == _DEFLATED:
        raise UnreadableImageError(f"{name} is deflated DICOM, which is not supported; save it uncompressed.")
    file.seek(0)


def _import_pydicom(name: str) -> Any:
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
    warnings.filterwarnings("ignore", module=r"pydicom\.")
    return pydicom


def _begins_with_elements(data: bytes, order: str, explicit: bool) -> bool:
    position, last = 0, -1
    for _ in range(_BARE_ELEMENTS):
        element = _element_at(data, position, order, explicit)
        if element is None or element.tag <= last or (last < 0 and element.tag >> 16 not in {0x0002, 0x0008}):
            return False
        if element.length == _UNDEFINED:  # a sequence; what came before it must do
            return position > 0
        last, position = element.tag, element.start + element.length
    return position <= len(data)


def _element_at(data: bytes, position: int, order: str, explicit: bool) -> _RawElement | None:
    """The element that begins there, None if none does."""
    if len(data) < position + 12:
        return None
    group, number, representation, length = struct.unpack_from(f"{order}HH2sH", data, position)
    start = position + 8
    if not explicit or representation in _LONG_LENGTHS:
        start = position + (12 if explicit else 8)
        (length,) = struct.unpack_from(f"{order}I", data, start - 4)
    elif representation not in _SHORT_LENGTHS:
        return None
    return _RawElement(group << 16 | number, representation.decode() if explicit else None, start, length)


def _syntax(dataset: Any, name: str, *, encapsulated: bool) -> Any:
    """The transfer syntax; where no file meta information names one, what the data set shows."""
    from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax:
        return UID(str(syntax))
    if encapsulated:
        raise UnreadableImageError(f"{name} is DICOM without its file header, so its compression is unknown.")
    implicit, little_endian = dataset.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little_endian else ExplicitVRBigEndian


def _what_it_is(dataset: Any) -> str:
    """What a file without pixels is, as far as it says so."""
    from pydicom.uid import UID

    kind = UID(str(dataset.file_meta.get("MediaStorageSOPClassUID") or dataset.get("SOPClassUID")))
    known = kind.name if kind.name != kind else ""
    if known == "Media Storage Directory Storage":
        return "; it is a DICOMDIR, an index of files"
    if known and "Image" not in known:
        return f"; it is of the kind {known}"
    return "; it is truncated, or only a header"


def _representation(element: Any) -> str:
    """The value representation, by the dictionary where the file does not give one."""
    from pydicom.datadict import dictionary_VR

    if element.VR in (None, "UN"):
        return str(dictionary_VR(element.tag))
    return str(element.VR)


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _number(text: str) -> float | None:
    text = text.strip(" \0\t\r\n")
    try:
        return float(text) if text else None
    except ValueError:
        return math.nan
