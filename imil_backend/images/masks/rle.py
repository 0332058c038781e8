"""Label Studio's brush RLE: decoded straight to the alpha channel, and encoded.

The format is that of the npm package @thi.ng/rle-pack. A stream of bits, most significant first, holds
the number of words (32 bits), the bits of a word less one (5), four sizes of count fields less one
(4 each), and then records until the words are complete:

    1 | which size (2) | count less one (that size) | word            a run
    0 | which size (2) | count less one (that size) | word, word, ... as many words as counted

The words are the bytes of an RGBA image, row by row. Label Studio paints with R = G = B = A, so the
editor writes runs only; other programs write both kinds.

Where a record starts is known only when the one before it has been read. Everything else is done for
all records at once with numpy: the length of the record that would start at each bit is computed in
advance, a short Python loop jumps along these lengths, and the records that were met are read together.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imil_backend.errors import (
    MaskSizeError,
    RleHeaderError,
    RleOverrunError,
    RleTruncatedError,
    RleValueError,
)

Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]

_HEADER_BITS = 32 + 5 + 4 * 4
_EDITOR_SIZES = (3, 4, 8, 16)
_WORD = 8
_SHORTEST, _LONGEST = 3 + 1 + _WORD, 3 + 16 + _WORD  # bits of runs with the smallest and the widest count
_AT_ONCE = 4  # records that one jump passes at most
_CHUNK = 1 << 17  # bytes of data read together; more would gain nothing
_SMALLEST_CHUNK = 1 << 10
_TABLES = 64  # bytes that the tables take for a byte of data: they may take what the image takes
_AHEAD = 16  # bytes of the next chunk that are looked at: jumps and records reach there
_LITTLE = 2048  # bytes of data that are not worth a table of jumps
_SPARE_BITS = 15  # the SDK's encoder pads by up to a byte more than is needed


def decode_rle(rle: Sequence[int] | bytes, width: int, height: int) -> Bytes:
    """Decode one brush region.

    Args:
        rle: the region's `value.rle`, whole numbers from 0 to 255.
        width: natural width of the sample's image.
        height: natural height.

    Returns:
        The alpha channel, uint8 of shape (height, width). A pixel counts as painted from 128 on.

    Raises:
        RleValueError: something else than a list of whole numbers from 0 to 255.
        MaskSizeError: painted on an image of another size; found before anything is allocated.
        RleHeaderError: words that do not have 8 bits.
        RleTruncatedError: it ends before the last pixel.
        RleOverrunError: it goes on after the last pixel.
    """
    values, lengths = _all_runs(rle, width, height)
    return np.repeat(values, lengths).reshape(height, width)


def _all_runs(rle: object, width: int, height: int) -> tuple[Bytes, Integers]:
    """Values of all runs, uint8, and their lengths in pixels, int64."""
    data = _to_bytes(rle)
    sizes = _read_header(data, width, height)
    values, lengths = zip(*_runs(data, sizes, 4 * width * height), strict=True)
    return np.concatenate(values), np.concatenate(lengths)


def _to_bytes(rle: object) -> bytes:
    if not isinstance(rle, (list, tuple, bytes)):
        raise RleValueError(f"the brush data is not a list of numbers but of type {type(rle).__name__}")
    try:
        return bytes(rle)
    except (TypeError, ValueError) as error:
        raise RleValueError("the brush data contains something other than numbers from 0 to 255") from error


def _read_header(data: bytes, width: int, height: int) -> tuple[int, ...]:
    """The four sizes of count fields."""
    if len(data) * 8 < _HEADER_BITS:
        raise RleTruncatedError("the brush data ends within its header")
    header = int.from_bytes(data[:7], "big")
    words = header >> 24
    if min(width, height) < 1 or words != 4 * width * height:
        raise MaskSizeError(f"the brush data has {words} words, not the 4 x {width} x {height} of the image")
    if (header >> 19) & 31 != _WORD - 1:
        raise RleHeaderError(f"the brush data has words of {((header >> 19) & 31) + 1} bits, not of {_WORD}")
    return tuple(((header >> shift) & 15) + 1 for shift in (15, 11, 7, 3))


class _Chunk(NamedTuple):
    """The records that start in a chunk of the data: where they start, and their lengths, in bits."""

    starts: Integers
    steps: Bytes
    literals: bool  # whether there is one among them
    position: int  # the bit after them
    pending: int  # words of the last literal that are left to the next chunk


def _runs(data: bytes, sizes: tuple[int, ...], words: int) -> Iterator[tuple[Bytes, Integers]]:
    """Values of runs, uint8, and their lengths in pixels, int64, chunk by chunk."""
    padded = np.frombuffer(data + bytes(_AHEAD), np.uint8)
    size = min(_CHUNK, max(_SMALLEST_CHUNK, (words // 4 + len(data)) // _TABLES))
    end, position, done, pending = 8 * len(data), _HEADER_BITS, 0, 0
    while done < words and position + (_WORD if pending else _SHORTEST) <= end:
        first = position >> 3
        piece = padded[first : min(first + size, len(data)) + _AHEAD]
        chunk = _walk(piece, sizes, position & 7, pending)
        values, counts = _read(piece, chunk)
        counts[0] += done
        ends = np.cumsum(counts)
        position, pending = 8 * first + chunk.position, chunk.pending
        if ends[-1] > words:  # the padding looks like records, too
            last = int(np.searchsorted(ends, words))
            values, ends = values[: last + 1], ends[: last + 1]
            position, pending = 8 * first + int(chunk.starts[last]) + int(chunk.steps[last]), 0
        pixels = ends >> 2  # pixels whose alpha, their fourth word, lies before the end
        lengths = np.empty_like(pixels)
        lengths[0] = pixels[0] - (done >> 2)
        np.subtract(pixels[1:], pixels[:-1], out=lengths[1:])
        done = int(ends[-1])
        yield values, lengths
    if done < words or pending or position > end:
        raise RleTruncatedError("the brush data ends before the last pixel")
    spare = end - position
    if done > words or spare > _SPARE_BITS or int.from_bytes(data[-2:], "big") & ((1 << spare) - 1):
        raise RleOverrunError("the brush data continues after the last pixel")


def _walk(piece: Bytes, sizes: tuple[int, ...], position: int, pending: int) -> _Chunk:
    """Find the records that start in a piece of data before its last _AHEAD bytes.

    A literal of several words is taken as one record with its first word and one for each other word.
    """
    limit = 8 * (len(piece) - _AHEAD)
    shortest = 3 + sizes[0] + _WORD
    # With any editor's sizes the number of runs in a jump follows from its length: see _records.
    several = sizes[0] == min(sizes) and 2 * shortest > _LONGEST and len(piece) > _LITTLE
    jumps = _run_lengths(np.unpackbits(piece), sizes, limit)
    if several:
        jumps = _jumps(jumps, shortest)
    ahead = jumps.tobytes()
    start, taken, literals = position, bytearray(), pending > 0
    while position + (_WORD if pending else _SHORTEST) <= limit:
        if pending:
            words = min(pending, (limit - position) // _WORD)
            taken += bytes([_WORD]) * words
            position += _WORD * words
            pending -= words
            continue
        while jump := ahead[position]:
            taken.append(jump)
            position += jump
        if position + _SHORTEST <= limit:
            literals = True
            step, pending = _literal(piece, sizes, position)
            taken.append(step)
            position += step
    steps = _records(taken, shortest) if several else np.frombuffer(taken, np.uint8)
    starts = np.empty(len(steps) + 1, np.int64)
    starts[0] = 0
    np.cumsum(steps, out=starts[1:])
    starts += start
    return _Chunk(starts[:-1], steps, literals, position, pending)


def _literal(piece: Bytes, sizes: tuple[int, ...], position: int) -> tuple[int, int]:
    """Bits of a literal with its first word, and the number of its other words."""
    head = int.from_bytes(piece[position >> 3 : (position >> 3) + 4].data, "big") << (position & 7)
    size = sizes[(head >> 29) & 3]
    return 3 + size + _WORD, (head >> (29 - size)) & ((1 << size) - 1)


def _run_lengths(bits: Bytes, sizes: tuple[int, ...], limit: int) -> Bytes:
    """Length of the run that would start at each bit; 0 for a literal, and from the limit on."""
    first, second, third, fourth = (3 + size + _WORD for size in sizes)
    run, high, low = bits[:-2], bits[1:-1], bits[2:]
    # One of four numbers, chosen by arithmetic modulo 256: many times faster than by indexing.
    lengths = low * np.uint8((fourth - third - second + first) % 256)
    lengths += np.uint8((third - first) % 256)
    lengths *= high
    lengths += low * np.uint8((second - first) % 256)
    lengths += np.uint8(first)
    lengths *= run
    lengths[limit:] = 0
    return lengths


def _jumps(runs: Bytes, shortest: int) -> Bytes:
    """Length of up to _AT_ONCE runs in a row from each bit on, all of the shortest kind but the last.

    The edges of strokes are anti-aliased, so that most runs are of the shortest kind, one or two pixels.
    """
    one = (runs == shortest).view(np.uint8)
    two = _after(runs, one, shortest)
    return _after(two, one[:-shortest] & one[shortest:], 2 * shortest)


def _after(jumps: Bytes, follows: Bytes, bits: int) -> Bytes:
    """Each jump with the one so many bits further on, where that follows (1) and does not (0)."""
    further = jumps[bits:] * follows[: len(jumps) - bits]
    further += jumps[:-bits]
    return further


def _records(taken: bytearray, shortest: int) -> Bytes:
    """Lengths of all the records that jumps passed; no record is as long as two of the shortest runs."""
    jumps = np.frombuffer(taken, np.uint8)
    records = np.minimum(np.maximum(jumps // np.uint8(shortest), 1), np.uint8(_AT_ONCE))
    last = np.cumsum(records, dtype=np.intp)
    last -= 1
    steps = np.full(last[-1] + 1, shortest, np.uint8)
    records -= 1
    records *= np.uint8(shortest)
    steps[last] = jumps - records
    return steps


def _read(piece: Bytes, chunk: _Chunk) -> tuple[Bytes, Integers]:
    """Value and number of words of each record."""
    windows: NDArray[np.uint64] = np.ndarray((len(piece) - 8,), np.uint64, piece, strides=(1,))
    window = windows[chunk.starts >> 3]
    if sys.byteorder == "little":
        window.byteswap(inplace=True)
    window <<= (chunk.starts & 7).view(np.uint64)  # now the record's bits come first
    values = (window >> (np.uint64(64) - chunk.steps)).astype(np.uint8)
    counts = (window >> np.uint64(45)).astype(np.uint16)  # the 16 bits after the first 3
    counts >>= np.uint8(27) - chunk.steps
    if chunk.literals:
        counts[window < 1 << 63] = 0  # their words stand alone
    return values, np.add(counts, 1, dtype=np.int64)


def encode_rle(alpha: NDArray[np.uint8]) -> list[int]:
    """Encode an alpha channel as the editor does, to the same bytes.

    Args:
        alpha: uint8 of shape (height, width), at the image's natural size; 255 where painted. The editor
            shows other values as transparent to that degree.

    Returns:
        Whole numbers from 0 to 255 for a region's `value.rle`.
    """
    flat = np.ascontiguousarray(alpha, np.uint8).reshape(-1)
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
    words = 4 * np.diff(starts, append=flat.size)
    longest = 1 << _EDITOR_SIZES[-1]
    pieces = -(-words // longest)
    counts = np.full(pieces.sum(), longest - 1)
    counts[np.cumsum(pieces) - 1] = (words - 1) % longest
    kinds = np.searchsorted(1 << np.array(_EDITOR_SIZES[:-1]), counts, side="right")
    sizes = np.array(_EDITOR_SIZES)[kinds]
    codes = (((4 | kinds) << sizes | counts) << _WORD) | np.repeat(flat[starts], pieces)
    header = 4 * flat.size
    for bits, number in ((5, _WORD - 1), *((4, size - 1) for size in _EDITOR_SIZES)):
        header = header << bits | number
    packed: list[int] = _pack(header, codes, 3 + sizes + _WORD).tolist()
    return packed


def _pack(header: int, codes: Integers, widths: Integers) -> Bytes:
    """Write numbers of up to 32 bits one after the other, each with its width in bits, after the header."""
    ends = np.cumsum(widths) + _HEADER_BITS
    starts = ends - widths
    packed = np.zeros(int(ends[-1]) // 8 + 6, np.uint8)
    packed[:7] = np.frombuffer((header << (-_HEADER_BITS % 8)).to_bytes(7, "big"), np.uint8)
    shifted = codes << (40 - widths - (starts & 7))  # a number touches five bytes at most
    for byte in range(5):
        np.bitwise_or.at(packed, (starts >> 3) + byte, (shifted >> (32 - 8 * byte)).astype(np.uint8))
    return packed[: -(-int(ends[-1]) // 8)]
