"""Lookup tables in DICOM headers: modality LUT, VOI LUT and palettes, plain or segmented.

Descriptors are often wrong about the size of an entry, so it is taken from the table itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imil_backend.errors import UnreadableImageError
from imil_backend.images.dicom.header import Elements

_MOST_ENTRIES = 65536
_LOST_BITS = 4  # of a palette's depth; no palette is meant to be so dark
_COLOURS = ("Red", "Green", "Blue")
_DISCRETE, _LINEAR, _INDIRECT = range(3)  # kinds of segments


@dataclass(frozen=True)
class LookupTable:
    """Values for consecutive numbers; the first and last stand for all below and above."""

    entries: NDArray[np.uint16]  # one at least
    first: int  # the number that gives the first entry

    def look_up(self, numbers: NDArray[Any]) -> NDArray[np.uint16]:
        """The values for numbers of any shape."""
        return self.entries[self.places(numbers)]

    def places(self, numbers: NDArray[Any]) -> NDArray[np.intp]:
        """Which entry each number gives."""
        places = np.nan_to_num(np.rint(numbers - float(self.first)))
        return np.clip(places, 0, len(self.entries) - 1).astype(np.intp)


def first_table(header: Elements, sequence: str, *, negative: bool) -> LookupTable | None:
    """The table in a sequence's first item that has something in it, None where there is none.

    Args:
        header: The file's.
        sequence: ModalityLUTSequence or VOILUTSequence.
        negative: Whether what is looked up may be below 0: says how the first number is meant.

    Raises:
        UnreadableImageError: the table has fewer entries than promised.
    """
    for item in header.items(sequence):
        data = item.table("LUTData")
        descriptor = _descriptor(item, "LUTDescriptor", negative=negative)
        if data and descriptor:
            count, first, _ = descriptor
            return LookupTable(_entries(data, count, header.name), first)
    return None


def palette(header: Elements, *, negative: bool) -> tuple[list[LookupTable], int]:
    """The tables for red, green and blue, and the value in them that stands for full brightness.

    Args:
        header: The file's.
        negative: Whether what is looked up may be below 0.

    Raises:
        UnreadableImageError: there is no palette, or it has fewer entries than promised.
    """
    tables = []
    declared = 0
    for colour in _COLOURS:
        prefix = f"{colour}PaletteColorLookupTable"
        descriptor = _descriptor(header, f"{prefix}Descriptor", negative=negative)
        plain, segmented = header.table(f"{prefix}Data"), header.table(f"Segmented{prefix}Data")
        if descriptor is None or not (plain or segmented):
            raise UnreadableImageError(f"{header.name} is DICOM in palette colour without its palette.")
        count, first, declared = descriptor
        entries = (
            _entries(plain, count, header.name)
            if plain
            else _expanded(segmented, count, declared, header.name)
        )
        tables.append(LookupTable(entries, first))
    return tables, _full_brightness(max(int(table.entries.max()) for table in tables), declared)


def _descriptor(header: Elements, keyword: str, *, negative: bool) -> tuple[int, int, int] | None:
    """Number of entries, number of the first one, and declared bits of each; None where there is none."""
    values = header.numbers(keyword)
    if len(values) != 3 or not all(value is not None and value == int(value) for value in values):
        return None
    count, first, bits = (int(value or 0) for value in values)
    if negative and first >= _MOST_ENTRIES // 2:
        first -= _MOST_ENTRIES
    return count % _MOST_ENTRIES or _MOST_ENTRIES, first, bits


def _entries(data: bytes, count: int, name: str) -> NDArray[np.uint16]:
    """One for each 16-bit word if there are enough words, or two, the low byte's first, if just for these."""
    if len(data) >= 2 * count:
        return np.frombuffer(data, "<u2", count)
    if len(data) in {count, count + count % 2}:
        return np.frombuffer(data, "u1", count).astype(np.uint16)
    raise UnreadableImageError(
        f"{name} is DICOM with a lookup table of {len(data) // 2:,} entries, "
        f"and its header promises {count:,}."
    )


def _full_brightness(largest: int, declared: int) -> int:
    """By the declared bits, unless the largest entry needs more, or so few that they cannot be meant."""
    bits, declared = max(8, largest.bit_length()), min(max(8, declared), 16)
    if declared - _LOST_BITS < bits <= declared:
        bits = declared
    return (1 << bits) - 1


def _expanded(data: bytes, count: int, declared: int, name: str) -> NDArray[np.uint16]:
    """A segmented table. What its numbers and offsets count is whatever gives as many entries as promised."""
    for bits in (8, 16) if declared == 8 else (16, 8):
        whole = len(data) - len(data) * 8 % bits // 8
        numbers = np.frombuffer(data[:whole], "u1" if bits == 8 else "<u2").tolist()
        for unit in (bits // 8, 1):  # an offset is in bytes, and often in words
            entries: list[int] = []
            if _Segments(numbers, bits, unit, count).append(entries) and len(entries) == count:
                return np.array(entries, np.uint16)
    raise UnreadableImageError(
        f"{name} is DICOM with a segmented palette that does not give the {count:,} entries promised."
    )


@dataclass(frozen=True)
class _Segments:
    """The segments of a table (PS3.3 C.7.9.2)."""

    numbers: list[int]
    bits: int  # of a number
    unit: int  # bytes that an offset counts
    count: int  # entries when expanded

    def append(self, entries: list[int], place: int = 0, copied: int | None = None) -> bool:
        """Append what segments give, until there are all entries; whether none of the segments was damaged.

        Args:
            entries: What came before. Each segment adds one at least, so that this ends.
            place: Where the first segment begins.
            copied: How many segments an indirect one copies; None: all, of the table itself.
        """
        done = 0
        while place + 2 < len(self.numbers) and len(entries) < self.count and done != copied:
            kind, length = self.numbers[place : place + 2]
            place += 2
            done += 1
            if length == 0:
                return False
            if kind == _DISCRETE:
                entries.extend(self.numbers[place : place + length])
                place += length
            elif kind == _LINEAR and entries:
                line = np.linspace(entries[-1], self.numbers[place], length + 1)[1:]
                entries.extend(np.rint(line).astype(int).tolist())
                place += 1
            elif kind == _INDIRECT and copied is None:
                parts = self.numbers[place : place + 32 // self.bits]
                offset = sum(part << (self.bits * index) for index, part in enumerate(parts))
                if not self.append(entries, offset // self.unit, length):
                    return False
                place += len(parts)
            else:
                return False
        return True
