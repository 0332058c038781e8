"""TIFFs of any depth and kind, written by hand, and what libtiff makes of them."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

_HEADER = 8
_SAMPLE_FORMATS = {"u": 1, "i": 2, "f": 3}
_SHORT, _LONG = ("H", 3), ("I", 4)  # struct's letter, TIFF's number


def write_tiff(
    path: Path,
    samples: np.ndarray,
    *,
    bits: int | None = None,
    photometric: int | None = 1,
    big_endian: bool = False,
    in_planes: bool = False,
    extra: Sequence[int] = (),
    colormap: Sequence[int] = (),
) -> Path:
    """One uncompressed page of samples, (height, width) or (height, width, samples).

    `bits` packs unsigned ones tighter than they come. Where `photometric` is None, there is no such tag.
    """
    order = ">" if big_endian else "<"
    height, width = samples.shape[:2]
    count = 1 if samples.ndim == 2 else samples.shape[2]
    planes = np.moveaxis(samples, 2, 0) if in_planes and count > 1 else samples[None]
    strips = [_packed(plane, bits, order) for plane in planes]
    bodies = b"".join(strips)
    offsets = [_HEADER + sum(map(len, strips[:number])) for number in range(len(strips))]
    tags = [
        (256, _LONG, [width]),
        (257, _LONG, [height]),
        (258, _SHORT, [bits or 8 * samples.dtype.itemsize] * count),
        (259, _SHORT, [1]),
        (262, _SHORT, [] if photometric is None else [photometric]),
        (273, _LONG, offsets),
        (277, _SHORT, [count]),
        (278, _LONG, [height]),
        (279, _LONG, [len(strip) for strip in strips]),
        (284, _SHORT, [2 if in_planes else 1]),
        (320, _SHORT, list(colormap)),
        (338, _SHORT, list(extra)),
        (339, _SHORT, [_SAMPLE_FORMATS[samples.dtype.kind]] * count),
    ]
    entries = b""
    tags = [tag for tag in tags if tag[2]]
    for number, (letter, kind), values in tags:
        body = struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(body) > 4:
            place, bodies = _HEADER + len(bodies), bodies + body
            body = struct.pack(f"{order}I", place)
        entries += struct.pack(f"{order}HHI", number, kind, len(values)) + body.ljust(4, b"\0")
    mark = b"MM" if big_endian else b"II"
    header = mark + struct.pack(f"{order}HI", 42, _HEADER + len(bodies))
    directory = struct.pack(f"{order}H", len(tags)) + entries + bytes(4)
    path.write_bytes(header + bodies + directory)
    return path


def _packed(plane: np.ndarray, bits: int | None, order: str) -> bytes:
    if bits is None:
        return plane.astype(plane.dtype.newbyteorder(order)).tobytes()
    digits = plane[..., None] >> np.arange(bits - 1, -1, -1) & 1
    return np.packbits(digits.astype(np.uint8).reshape(len(plane), -1), axis=1).tobytes()


def recompressed(path: Path, *options: str) -> Path:
    """As libtiff writes it with these options of tiffcp."""
    _need("tiffcp")
    result = path.with_name(f"recompressed-{path.name}")
    subprocess.run(["tiffcp", *options, path, result], check=True, capture_output=True)
    return result


def as_libtiff_reads(path: Path) -> np.ndarray:
    """(height, width, 3), uint8, laid over black."""
    _need("tiff2rgba")
    result = path.with_name(f"rgba-{path.name}")
    subprocess.run(["tiff2rgba", "-c", "none", path, result], check=True, capture_output=True)
    with Image.open(result) as image:
        black = Image.new("RGBA", image.size, "black")
        black.alpha_composite(image.convert("RGBA"))
        return np.asarray(black)[..., :3]


def _need(tool: str) -> None:
    if shutil.which(tool) is None:
        reason = f"{tool} is missing: install Debian's libtiff-tools"
        assert os.environ.get("CI") != "true", reason
        pytest.skip(reason)
