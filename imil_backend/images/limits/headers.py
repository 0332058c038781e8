"""Headers of WebP and TIFF, looked at before Pillow is: it allocates by them when it opens a file."""

from __future__ import annotations

import struct

from imil_backend.errors import UnreadableImageError

_TAG_BYTES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_BYTES_TYPES = frozenset({1, 2, 6, 7})  # of which Pillow makes bytes, and of others a number each
_MOST_NUMBERS = 2**20  # of a tag; a strip for each row are 65,535
_MOST_PAGES = 10_000
_BIG = 43  # the version of BigTIFF
_WEBP_START = 30  # bytes of all headers


def webp_size(data: bytes, name: str) -> tuple[int, int]:
    """Width and height of the canvas, for which Pillow takes memory.

    Raises:
        UnreadableImageError: it is no WebP.
    """
    start = data[:_WEBP_START].ljust(_WEBP_START, b"\0")
    kind = start[12:16]
    if start[8:12] == b"WEBP" and kind == b"VP8X":
        return 1 + int.from_bytes(start[24:27], "little"), 1 + int.from_bytes(start[27:30], "little")
    if start[8:12] == b"WEBP" and kind == b"VP8L":
        bits = int.from_bytes(start[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if start[8:12] == b"WEBP" and kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", start, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise UnreadableImageError(f"{name} is truncated or damaged: it is no WebP.")


def check_tiff_tags(data: bytes, name: str) -> None:
    """That the tags of each page are within the file, one beside the other, and not too many numbers.

    Raises:
        UnreadableImageError: they are not: Pillow reads all of them, also if thousands are one place.
    """
    order = ">" if data.startswith(b"MM") else "<"
    (version,) = struct.unpack_from(f"{order}H", data, 2)
    big = version == _BIG
    count_format, entry_format, next_format = ("Q", "HHQQ", "Q") if big else ("H", "HHII", "I")
    entry_bytes, inline = struct.calcsize(f"{order}{entry_format}"), 8 if big else 4
    (place,) = struct.unpack_from(f"{order}{next_format}", data, 8 if big else 4)
    seen: set[int] = set()
    while place and place < len(data) and place not in seen:
        seen.add(place)
        if len(seen) > _MOST_PAGES:
            raise UnreadableImageError(f"{name} holds more than {_MOST_PAGES:,} pages; save each as a file.")
        try:
            (count,) = struct.unpack_from(f"{order}{count_format}", data, place)
            place += struct.calcsize(count_format)
            end = place + count * entry_bytes
            whole = place + min(count, (len(data) - place) // entry_bytes) * entry_bytes  # it may be cut off
            entries = struct.iter_unpack(f"{order}{entry_format}", data[place:whole])
            taken = 0
            for _, kind, number, _ in entries:
                size = number * _TAG_BYTES.get(kind, 1)
                taken += size if size > inline else 0
                if taken > len(data) or (number > _MOST_NUMBERS and kind not in _BYTES_TYPES):
                    raise UnreadableImageError(f"{name} is damaged: its tags are larger than the file.")
            (place,) = struct.unpack_from(f"{order}{next_format}", data, end)
        except struct.error:
            return  # cut off: Pillow says so
