"""PNGs of 16 bits a sample in any colour type, which Pillow does not write."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by samples of a pixel: grey, grey and alpha, RGB, RGBA
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def write_png(
    path: Path,
    samples: np.ndarray,
    *,
    filters: tuple[int, ...] = (0,),
    interlaced: bool = False,
    chunks: bytes = b"",
) -> Path:
    """uint8 or uint16, (height, width) or (height, width, samples); the rows take the filters by turns."""
    height, width = samples.shape[:2]
    colour = _COLOUR_TYPES[1 if samples.ndim == 2 else samples.shape[2]]
    header = struct.pack(">IIBBBBB", width, height, 8 * samples.itemsize, colour, 0, 0, int(interlaced))
    passes = [samples[y::down, x::right] for x, y, right, down in _ADAM7] if interlaced else [samples]
    body = b"".join(_filtered(each, filters) for each in passes if each.size)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + chunks
        + png_chunk(b"IDAT", zlib.compress(body))
        + png_chunk(b"IEND", b"")
    )
    return path


def _filtered(samples: np.ndarray, filters: tuple[int, ...]) -> bytes:
    pixel = samples.itemsize * (1 if samples.ndim == 2 else samples.shape[2])
    stored = samples.astype(samples.dtype.newbyteorder(">")).tobytes()
    rows = np.frombuffer(stored, np.uint8).reshape(len(samples), -1).astype(int)
    above = np.zeros_like(rows[0])
    body = b""
    for number, row in enumerate(rows):
        kind = filters[number % len(filters)]
        body += bytes([kind]) + ((row - _predicted(kind, row, above, pixel)) % 256).astype(np.uint8).tobytes()
        above = row
    return body


def _predicted(kind: int, row: np.ndarray, above: np.ndarray, pixel: int) -> np.ndarray:
    """What a filter of the PNG specification subtracts."""
    left, corner = (np.concatenate([np.zeros(pixel, int), each[:-pixel]]) for each in (row, above))
    if kind < 4:
        return (np.zeros_like(row), left, above, (left + above) // 2)[kind]
    guess = left + above - corner
    to_left, to_above, to_corner = abs(guess - left), abs(guess - above), abs(guess - corner)
    return np.where(
        (to_left <= to_above) & (to_left <= to_corner), left, np.where(to_above <= to_corner, above, corner)
    )
