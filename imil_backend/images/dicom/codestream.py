"""What a compressed frame says of its own size, looked at before a decoder is: decoders allocate by it.

JPEG and JPEG-LS (ISO 10918-1, 14495-1), JPEG 2000 (15444-1) and DICOM's RLE (PS3.5 annex G). What no frame of
a DICOM file has, and what makes decoders take more memory than the size says, is refused as well.
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

_JPEG = re.compile(r"\.4\.(5\d|6\d|70|80|81)$")
_JPEG_2000 = re.compile(r"\.4\.(90|91|92|93|201|202|203)$")
_RLE = "1.2.840.10008.1.2.5"

# Markers of JPEG. A frame begins with one of SOF; DHP would begin a pyramid of frames.
_SOI, _EOI, _SOS, _DNL, _DHP, _APP11, _SOF55, _LSE = 0xD8, 0xD9, 0xDA, 0xDC, 0xDE, 0xEB, 0xF7, 0xF8
_SOF = {*range(0xC0, 0xD0), _SOF55} - {0xC4, 0xC8, 0xCC}
_BARE = {0x01, *range(0xD0, 0xD8)}  # without a length
_AFTER_CODE = re.compile(rb"\xff+[^\x00-\x7f\xd0-\xd7\xff]")  # what ends entropy-coded data, also JPEG-LS's
_OVERSIZE = 4  # of LSE: sides of more than 65,535

# Markers of JPEG 2000.
_SOC_SIZ, _SIZ, _COD, _COC, _SOT, _SOD = b"\xff\x4f\xff\x51", 0x51, 0x52, 0x53, 0x90, 0x93
_JP2 = b"\0\0\0\x0cjP  "  # a container, which DICOM forbids and some write
_MOST_TILES = 4096  # of which a decoder keeps some kilobytes each
_LEAST_PRECINCT = 4  # a side of 2^4: of each a decoder keeps some hundred bytes


class Size(NamedTuple):
    """Of a frame."""

    columns: int
    rows: int
    samples: int

    @property
    def in_words(self) -> str:
        """For messages."""
        return f"{self.columns} x {self.rows} with {self.samples} samples a pixel"


class DamagedError(Exception):
    """A frame that no decoder should see."""


def check_frame(frame: bytes, syntax: str, size: Size, bytes_per_sample: int) -> None:
    """That a frame is as large as its header says, and no decoder takes more memory for it.

    Args:
        frame: one, compressed.
        syntax: the transfer syntax.
        size: by the header.
        bytes_per_sample: by the header.

    Raises:
        DamagedError: it is not, or is none.
    """
    try:
        if _JPEG.search(syntax):
            found = _jpeg_size(frame)
        elif _JPEG_2000.search(syntax):
            found = _jpeg_2000_size(frame)
        elif syntax == _RLE:
            _check_rle(frame, size, bytes_per_sample)
            return
        else:
            raise DamagedError(f"nothing is known of the transfer syntax {syntax}")
    except (struct.error, IndexError) as error:
        raise DamagedError("it ends within its header") from error
    if found != size:
        raise DamagedError(f"they are {found.in_words}, and the header says {size.in_words}")


def _jpeg_size(data: bytes) -> Size:
    """Of the only frame; all segments up to the end of the image are walked through."""
    if data[:2] != bytes((0xFF, _SOI)):
        raise DamagedError("it does not begin as a JPEG")
    place, found = 2, None
    while place < len(data):
        while data[place] == data[place + 1] == 0xFF:
            place += 1
        code, marker = data[place], data[place + 1]
        if code != 0xFF or marker in {0, _SOI, _DHP, _DNL}:
            raise DamagedError("it has a segment that no JPEG in DICOM has")
        if marker == _EOI:
            break
        if marker in _BARE:
            place += 2
            continue
        (length,) = struct.unpack_from(">H", data, place + 2)
        body = data[place + 4 : place + 2 + length]
        if (marker == _APP11 and body.startswith(b"JP")) or (marker == _LSE and body[:1] == b"\x04"):
            raise DamagedError("it has a segment that no JPEG in DICOM has")
        if marker in _SOF:
            if found is not None:
                raise DamagedError("it has several frames")
            _, rows, columns, samples = struct.unpack_from(">BHHB", body)
            found = Size(columns, rows, samples)
        place += 2 + length
        if marker == _SOS:
            ahead = _AFTER_CODE.search(data, place)
            place = ahead.start() if ahead else len(data)
    if found is None:
        raise DamagedError("it has no frame")
    return found


def _jpeg_2000_size(data: bytes) -> Size:
    start = data.find(_SOC_SIZ)
    if start > 0 and (not data.startswith(_JP2) or b"pclr" in data[:start] or b"cmap" in data[:start]):
        start = -1
    if start < 0:
        raise DamagedError("it does not begin as a JPEG 2000 codestream")
    place, found = start + 2, None
    while place + 4 <= len(data):
        (marker, length) = struct.unpack_from(">xBH", data, place)
        body = data[place + 4 : place + 2 + length]
        if data[place] != 0xFF or (found is None) != (marker == _SIZ):
            raise DamagedError("it has several sizes or none")
        if marker == _SIZ:
            found = _siz(body)
        elif marker in {_COD, _COC}:
            _check_precincts(marker, body)
        elif marker == _SOT:
            (part,) = struct.unpack_from(">2xI", body)
            _check_tile_part(data, place + 2 + length)
            if part == 0:  # the last one, up to the end
                break
            place += max(part, 2 + length)
            if data[place : place + 2] in {b"\xff\xd9", b""}:
                break
            continue
        place += 2 + length
    if found is None:
        raise DamagedError("it has no size")
    return found


def _check_tile_part(data: bytes, place: int) -> None:
    """The header of a part of a tile, which may say anew how it is coded."""
    while data[place : place + 2] != bytes((0xFF, _SOD)):
        code, marker, length = struct.unpack_from(">BBH", data, place)
        if code != 0xFF:
            raise DamagedError("the header of a tile is damaged")
        body = data[place + 4 : place + 2 + length]
        if marker in {_COD, _COC}:
            _check_precincts(marker, body)
        place += 2 + length


def _siz(body: bytes) -> Size:
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top, samples = struct.unpack_from(
        ">2x8IH", body
    )
    if not (right > left and bottom > top and tile_width and tile_height):
        raise DamagedError("it has no pixels")
    if any(step != 1 for step in (*body[37 : 36 + 3 * samples : 3], *body[38 : 36 + 3 * samples : 3])):
        raise DamagedError("its samples are not of one size")
    across = -(-(right - tile_left) // tile_width)
    down = -(-(bottom - tile_top) // tile_height)
    if across * down > _MOST_TILES:
        raise DamagedError(f"it has {across * down} tiles")
    return Size(right - left, bottom - top, samples)


def _check_precincts(marker: int, body: bytes) -> None:
    """COD and COC: a flag says whether precincts are named, by the last bytes."""
    flags, named = (body[0], body[10:]) if marker == _COD else (body[1], body[7:])
    if flags & 1 and any(min(each & 15, each >> 4) < _LEAST_PRECINCT for each in named):
        raise DamagedError("its precincts are too small")


def _check_rle(data: bytes, size: Size, bytes_per_sample: int) -> None:
    """That no segment gives much more than it should; a little more is padding."""
    count, *offsets = struct.unpack_from("<16I", data)
    if count != size.samples * bytes_per_sample:
        raise DamagedError(f"it has {count} segments")
    ends = [*offsets[1:count], len(data)]
    most = 2 * size.rows * size.columns + 128
    for start, end in zip(offsets, ends, strict=False):
        if not 64 <= start <= end <= len(data):
            raise DamagedError("its segments are not in order")
        place, given = start, 0
        while place < end - 1 and given <= most:
            run = data[place]
            given += 257 - run if run > 128 else run + 1 if run < 128 else 0
            place += 2 if run > 128 else run + 2 if run < 128 else 1
        if given > most:
            raise DamagedError("a segment gives more pixels than there are")
