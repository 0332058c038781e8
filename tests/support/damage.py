"""Small files of every format that Pillow reads, and damage done to them."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from support.png import write_png
from support.tiff import write_tiff

HEADER = 200  # bytes: where formats say what they are


def small_files(folder: Path) -> Iterator[bytes]:
    """Of every format, depth and kind that is read."""
    grey = np.random.default_rng(0).integers(0, 256, (23, 31), np.uint8)
    colour = np.dstack([grey, grey[::-1], grey[:, ::-1]])
    opaque = np.dstack([colour, 255 - grey])
    pictures = [Image.fromarray(each) for each in (grey, colour, opaque)]
    for picture in (*pictures, pictures[1].quantize(16), pictures[0].convert("1")):
        for file_format in ("PNG", "BMP", "TIFF", "WEBP"):
            if file_format != "WEBP" or picture.mode not in {"P", "1"}:
                yield _saved(picture, file_format)
    yield _saved(pictures[1], "WEBP", lossless=True)
    for picture in (pictures[0], pictures[1], pictures[1].convert("CMYK")):
        yield _saved(picture, "JPEG")
        yield _saved(picture, "JPEG", progressive=True)
        for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
            yield _saved(picture, "TIFF", compression=compression)
    yield _saved(pictures[0].convert("1"), "TIFF", compression="group4")
    path = folder / "deep"
    for samples in (grey, colour, opaque, opaque[..., 2:]):
        yield write_png(path, samples.astype(np.uint16) * 257).read_bytes()
        for big_endian in (False, True):
            photometric = 2 if samples.ndim == 3 and samples.shape[2] > 2 else 0
            deep = samples.astype(np.uint16) * 257
            yield write_tiff(path, deep, photometric=photometric, big_endian=big_endian).read_bytes()
    for dtype in (np.int8, np.int16, np.uint32, np.float32, np.float64):
        yield write_tiff(path, grey.astype(dtype)).read_bytes()
    yield write_tiff(path, grey.astype(np.uint16) * 16, bits=12).read_bytes()
    yield write_tiff(path, grey >> 4, bits=4, photometric=3, colormap=[*range(0, 256, 17)] * 3).read_bytes()


def _saved(picture: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, file_format, **options)
    return buffer.getvalue()


def cut(data: bytes, _: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(len(data))]


def flipped(data: bytes, _: bytes, draw: random.Random) -> bytes:
    """Some bits, one half of the time in the header."""
    damaged = bytearray(data)
    end = min(HEADER, len(data)) if draw.random() < 0.5 else len(data)
    for _each in range(draw.randint(1, 8)):
        damaged[draw.randrange(end)] ^= 1 << draw.randrange(8)
    return bytes(damaged)


def overwritten(data: bytes, _: bytes, draw: random.Random) -> bytes:
    """A number of the header by one that hurts."""
    damaged = bytearray(data)
    place = draw.randrange(min(HEADER, len(data)))
    number = draw.choice([0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF])
    size = draw.choice([1, 2, 4])
    damaged[place : place + size] = (number & (256**size - 1)).to_bytes(size, draw.choice(["big", "little"]))
    return bytes(damaged)


def spliced(data: bytes, other: bytes, draw: random.Random) -> bytes:
    """The beginning of one file and the end of another."""
    return data[: draw.randrange(1, len(data))] + other[draw.randrange(len(other)) :]


DAMAGES: tuple[Callable[[bytes, bytes, random.Random], bytes], ...] = (cut, flipped, overwritten, spliced)
