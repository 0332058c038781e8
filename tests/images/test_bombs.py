"""Small files that would take gigabytes: each is refused before a decoder takes memory for it."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import ExifTags, Image
from pydicom.encaps import encapsulate
from support.dicoms import dicom_bytes

from imil_backend.errors import ImageError, ImageTooLargeError, UnreadableImageError
from imil_backend.images.dicom.header import Elements
from imil_backend.images.limits.budget import DECODERS, MemoryBudget
from imil_backend.images.reading import read_image

LIMITS = {"max_bytes": 2**27, "max_pixels": 100_000_000}
SMALL = np.zeros((64, 64), np.uint16)
JPEG, JPEG_LS, JPEG_2000, RLE = (f"1.2.840.10008.1.2.{end}" for end in ("4.50", "4.80", "4.90", "5"))
ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, 0)


def in_dicom(frame: bytes, syntax: str, side: int = 64) -> bytes:
    return dicom_bytes(encapsulate([frame]), shape=(side, side), BitsAllocated=8, syntax=syntax)


def jpeg(width: int = 65_500, height: int = 65_500, mode: str = "L") -> bytes:
    """A JPEG whose frame says another size than it has."""
    file = io.BytesIO()
    Image.new(mode, (64, 64)).save(file, "JPEG")
    data = bytearray(file.getvalue())
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def jpeg_with_two_frames() -> bytes:
    small, large = jpeg(64, 64), jpeg()
    start = large.index(b"\xff\xc0")
    frame = large[start : start + 2 + int.from_bytes(large[start + 2 : start + 4], "big")]
    return small.replace(b"\xff\xda", frame + b"\xff\xda", 1)


def jpeg_with(segment: bytes) -> bytes:
    return jpeg(64, 64).replace(b"\xff\xd8", b"\xff\xd8" + segment, 1)


def jpeg_ls(segment: bytes = b"", side: int = 65_500) -> bytes:
    frame = b"\xff\xf7" + struct.pack(">HBHHB", 11, 8, side, side, 1) + b"\x01\x11\x00"
    scan = b"\xff\xda" + struct.pack(">HB", 8, 1) + b"\x01\x00\x00\x00\x00"
    return b"\xff\xd8" + segment + frame + scan + bytes(200) + b"\xff\xd9"


def jpeg_2000(side: int, *, tile: int = 0, precincts: bytes = b"", late: bytes = b"") -> bytes:
    """A codestream without any data; `late` is in the header of its tile."""
    tile = tile or side
    size = struct.pack(">HHIIIIIIIIH", 41, 0, side, side, 0, 0, tile, tile, 0, 0, 1) + b"\x07\x01\x01"
    quantized = struct.pack(">HB", 19, 0x40) + bytes([64] * 16)
    part = b"\xff\x90" + struct.pack(">HHIBB", 10, 0, 14 + len(late), 0, 1) + late + b"\xff\x93"
    return b"\xff\x4f\xff\x51" + size + coding(precincts) + b"\xff\x5c" + quantized + part + b"\xff\xd9"


def coding(precincts: bytes) -> bytes:
    named = bool(precincts)
    return (
        b"\xff\x52" + struct.pack(">HBBHB5B", 12 + len(precincts), named, 0, 1, 0, 5, 4, 4, 0, 1) + precincts
    )


def rle() -> bytes:
    """Two bytes are 128, 20 million times."""
    return struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\0" * (20 * 2**20)


def element(number: int, kind: bytes, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    length = struct.pack("<HI", 0, len(value)) if kind == b"OB" else struct.pack("<H", len(value))
    return struct.pack("<HH2s", 2, number, kind) + length + value


def deflated() -> bytes:
    """The transfer syntax stands behind a long element."""
    plain = dicom_bytes(SMALL)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = packer.compress(plain[plain.index(b"\x08\0\x16\0UI") :] + bytes(600 * 2**20)) + packer.flush()
    meta = element(1, b"OB", bytes(4000)) + element(0x10, b"UI", b"1.2.840.10008.1.2.1.99")
    return bytes(128) + b"DICM" + element(0, b"UL", struct.pack("<I", len(meta))) + meta + body


def many_items(*, undefined: bool) -> bytes:
    """A sequence of which each eight bytes become a data set."""
    plain, items = dicom_bytes(SMALL), ITEM * 10**6
    length, end = (0xFFFFFFFF, struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)) if undefined else (len(items), b"")
    sequence = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, length) + items + end
    place = plain.index(b"\x28\0")
    return plain[:place] + sequence + plain[place:]


def webp() -> bytes:
    """34 bytes of 16,383 x 16,383 pixels."""
    file = io.BytesIO()
    Image.new("RGBA", (8, 8)).save(file, "WEBP", lossless=True)
    data = bytearray(file.getvalue())
    data[21:25] = (0x10000000 | 16382 << 14 | 16382).to_bytes(4, "little")
    return bytes(data)


def webp_with_canvas() -> bytes:
    start = b"VP8X" + struct.pack("<I", 10) + b"\x10\0\0\0" + b"\xff\xff\0" * 2
    return b"RIFF" + struct.pack("<I", 4 + len(start)) + b"WEBP" + start


def tiff(tags: list[tuple[int, int, int, int]], body: bytes) -> bytes:
    directory = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    place = 8 + len(body) + len(body) % 2
    start = b"II*\0" + struct.pack("<I", place) + body + b"\0" * (len(body) % 2)
    return start + struct.pack("<H", len(tags)) + directory + bytes(4)


GREY = [(256, 3, 1, 64), (257, 3, 1, 64), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8)]


def tiff_of_one_place() -> bytes:
    """Three thousand tags that are all the same mebibyte."""
    return tiff([*GREY, *((33_000 + number, 7, 2**20, 8) for number in range(3000))], bytes(2**20))


def tiff_of_many_numbers() -> bytes:
    tags = [each for each in GREY if each[0] != 258]
    return tiff([*tags, (258, 3, 2**24, 8)], bytes(2**25))


def tiff_of_many_numbers_cut_off() -> bytes:
    tags = [each for each in GREY if each[0] != 258]
    return tiff([(258, 3, 2**24, 8), *tags], bytes(2**25))[:-9]


def tiff_with_a_large_tile() -> bytes:
    body = zlib.compress(bytes(2000))
    tags = [(322, 4, 1, 32_768), (323, 4, 1, 32_768), (324, 4, 1, 8), (325, 4, 1, len(body))]
    return tiff([*GREY[:3], (259, 3, 1, 8), GREY[4], *tags], body)


BOMBS: dict[str, Callable[[], bytes]] = {
    "a large JPEG in a small DICOM": lambda: in_dicom(jpeg(), JPEG),
    "a JPEG of three samples in a grey DICOM": lambda: in_dicom(jpeg(64, 64, "RGB"), JPEG),
    "a second frame": lambda: in_dicom(jpeg_with_two_frames(), JPEG),
    "a pyramid": lambda: in_dicom(jpeg_with(b"\xff\xde" + struct.pack(">HBHHB", 8, 8, 9, 9, 0)), JPEG),
    "a JPEG in boxes": lambda: in_dicom(jpeg_with(b"\xff\xeb\0\x08JP\0\0\0\0"), JPEG),
    "a height that comes later": lambda: in_dicom(jpeg(64, 0), JPEG),
    "a large JPEG-LS": lambda: in_dicom(jpeg_ls(), JPEG_LS),
    "an oversize JPEG-LS": lambda: in_dicom(jpeg_ls(b"\xff\xf8\0\x0c\x04\x03" + b"\xff" * 6, 64), JPEG_LS),
    "a large JPEG 2000": lambda: in_dicom(jpeg_2000(30_000), JPEG_2000),
    "tiles of one pixel": lambda: in_dicom(jpeg_2000(255, tile=1), JPEG_2000, 255),
    "precincts of one pixel": lambda: in_dicom(jpeg_2000(4000, precincts=bytes(6)), JPEG_2000, 4000),
    "precincts of one pixel in a tile": lambda: in_dicom(
        jpeg_2000(4000, late=coding(bytes(6))), JPEG_2000, 4000
    ),
    "RLE without end": lambda: in_dicom(rle(), RLE),
    "deflated DICOM": deflated,
    "a million items": lambda: many_items(undefined=False),
    "a million items without a length": lambda: many_items(undefined=True),
    "WebP": webp,
    "WebP with a canvas": webp_with_canvas,
    "a TIFF whose tags are one place": tiff_of_one_place,
    "a TIFF with a tag of many numbers": tiff_of_many_numbers,
    "a TIFF with a tag of many numbers, cut off": tiff_of_many_numbers_cut_off,
    "a TIFF with a large tile": tiff_with_a_large_tile,
}
LIMITED = """
import resource, sys
from pathlib import Path
from imil_backend.errors import ImageError
from imil_backend.images.reading import read_image
import pydicom, pydicom.pixels, openjpeg, libjpeg
for path in sorted(Path(sys.argv[1]).iterdir()):
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, resource.RLIM_INFINITY))
    try:
        read_image(path, max_bytes=2**27, max_pixels=10**8)
    except ImageError as error:
        assert "MemoryError" not in str(error), error
        continue
    sys.exit(f"{path.name} was read")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit of memory is Linux's")
def test_no_bomb_takes_a_quarter_of_a_gibibyte(tmp_path: Path) -> None:
    for name, make in BOMBS.items():
        (tmp_path / name.replace(" ", "-")).write_bytes(make())
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("bomb", "reason"),
    [
        ("a large JPEG in a small DICOM", "they are 65500 x 65500 .* and the header says 64 x 64"),
        ("a JPEG of three samples in a grey DICOM", "with 3 samples a pixel, and the header"),
        ("a second frame", "several frames"),
        ("a pyramid", "a segment that no JPEG in DICOM has"),
        ("a JPEG in boxes", "a segment that no JPEG in DICOM has"),
        ("a height that comes later", "they are 64 x 0 "),
        ("a large JPEG-LS", "they are 65500 x 65500 "),
        ("an oversize JPEG-LS", "a segment that no JPEG in DICOM has"),
        ("a large JPEG 2000", "they are 30000 x 30000 "),
        ("tiles of one pixel", "65025 tiles"),
        ("precincts of one pixel", "precincts"),
        ("precincts of one pixel in a tile", "precincts"),
        ("a million items", "20,000 items"),
        ("WebP", "16383 x 16383, .* the limit is"),
        ("WebP with a canvas", "65536 x 65536, .* the limit is"),
        ("a TIFF whose tags are one place", "its tags are larger than the file"),
        ("a TIFF with a tag of many numbers", "its tags are larger than the file"),
        ("a TIFF with a tag of many numbers, cut off", "its tags are larger than the file"),
        ("a TIFF with a large tile", "32768 x 32768, .* the limit is"),
    ],
)
def test_a_bomb_is_refused_for_what_it_is(bomb: str, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        read_image(BOMBS[bomb](), name="a", **LIMITS)


def test_numbers_without_end_are_refused() -> None:
    many = SimpleNamespace(get_item=lambda _: SimpleNamespace(value=b"1\\" * 200_000))
    with pytest.raises(UnreadableImageError, match="its WindowCenter has 400,000 bytes"):
        Elements(many, "a").numbers("WindowCenter")


@pytest.mark.parametrize(("filler", "turned"), [(0, True), (70_000, False)])
def test_exif_that_no_jpeg_could_hold_is_not_looked_at(filler: int, turned: bool) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.ImageDescription] = "a" * filler
    file = io.BytesIO()
    Image.fromarray(np.arange(32, dtype=np.uint8).reshape(4, 8)).save(file, "PNG", exif=exif)
    assert read_image(file.getvalue(), name="a", **LIMITS).shape == ((8, 4) if turned else (4, 8))


def test_an_image_that_takes_more_than_the_budget_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    Image.new("RGBA", (600, 600), (1, 2, 3, 4)).save(file, "PNG")
    monkeypatch.setattr(DECODERS, "total", 2**20)
    with pytest.raises(ImageTooLargeError, match="IMIL_MAX_IMAGE_MEMORY"):
        read_image(file.getvalue(), **LIMITS)


def test_decoders_together_stay_within_the_budget() -> None:
    budget, most, used = MemoryBudget(100), [0], [0]
    lock = threading.Lock()

    def decode() -> None:
        for _ in range(50):
            with budget.reserved(40, "an image"):
                with lock:
                    used[0] += 40
                    most[0] = max(most[0], used[0])
                with lock:
                    used[0] -= 40

    threads = [threading.Thread(target=decode) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] <= 80
    with budget.reserved(100, "all of it"):
        pass


def test_what_fails_gives_its_memory_back() -> None:
    budget = MemoryBudget(100)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), budget.reserved(100, "an image"):
            raise ZeroDivisionError
