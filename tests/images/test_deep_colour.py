"""PNGs of 16 bits in any colour type, BMPs with an empty fourth byte, and transparency."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.png import png_chunk, write_png

from imil_backend.errors import BlankImageError, UnreadableImageError
from imil_backend.images.reading import inspect_image, read_image

LIMITS = {"max_bytes": 2**24, "max_pixels": 1_000_000}
INPUTS = Path(__file__).parents[1] / "fixtures" / "inputs" / "sixteen_bits_in_colour"
SHARES = np.linspace(0, 1, 40 * 61).reshape(40, 61)
COLOUR = np.stack([SHARES, SHARES[::-1], SHARES[:, ::-1]], axis=2)
ALL_FILTERS = (0, 1, 2, 3, 4)


def twelve_bits(shares: np.ndarray) -> np.ndarray:
    return np.round(shares * 4095).astype(np.uint16)


def opaque(samples: np.ndarray) -> np.ndarray:
    return np.dstack([samples, np.full(samples.shape[:2], 65535, np.uint16)])


@pytest.mark.parametrize("name", sorted(path.name for path in INPUTS.iterdir()))
def test_the_same_greys_are_the_same_picture_in_every_colour_type(name: str) -> None:
    pixels = read_image(INPUTS / name, **LIMITS)
    assert np.array_equal(pixels, read_image(INPUTS / "png16_grey_12bit_data.png", **LIMITS))
    assert len(np.unique(pixels)) == 255  # of a thousand stored values; sixteen were left of them
    info = inspect_image(INPUTS / name, **LIMITS)
    assert (info.channels, info.deep, info.shown_as_is) == (1, True, False)


@pytest.mark.parametrize("filters", [*((each,) for each in ALL_FILTERS), ALL_FILTERS])
@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (twelve_bits(SHARES), SHARES),
        (opaque(twelve_bits(SHARES)), SHARES),
        (twelve_bits(COLOUR), COLOUR),
        (opaque(twelve_bits(COLOUR)), COLOUR),
    ],
    ids=["grey", "grey-alpha", "rgb", "rgba"],
)
def test_all_16_bits_are_read_through_every_filter(
    tmp_path: Path, samples: np.ndarray, expected: np.ndarray, filters: tuple[int, ...]
) -> None:
    pixels = read_image(write_png(tmp_path / "a.png", samples, filters=filters), **LIMITS)
    assert pixels.shape == expected.shape
    assert np.abs(pixels - 255 * expected).max() <= 0.6


def test_what_is_transparent_is_black_and_no_extreme(tmp_path: Path) -> None:
    film = twelve_bits(SHARES) + 500
    film[:10] = 65535
    samples = opaque(film)
    samples[:10, :, 1] = 0
    pixels = read_image(write_png(tmp_path / "a.png", samples), **LIMITS)
    assert not pixels[:10].any()
    assert (pixels[10:].min(), pixels[10:].max()) == (0, 255)


def test_half_transparent_colours_are_half_as_bright(tmp_path: Path) -> None:
    samples = opaque(twelve_bits(COLOUR))
    samples[..., 3] = 32768
    pixels = read_image(write_png(tmp_path / "a.png", samples), **LIMITS)
    assert np.abs(pixels - 255 * COLOUR / 2).max() <= 1


@pytest.mark.parametrize("transparent", [0, 60_000])
def test_a_transparent_value_of_16_bits_is_black_and_no_extreme(tmp_path: Path, transparent: int) -> None:
    film = twelve_bits(SHARES) + 500
    film[:10] = transparent
    for samples in (film, np.dstack([film] * 3)):
        count = 1 if samples.ndim == 2 else 3
        chunk = png_chunk(b"tRNS", struct.pack(f">{count}H", *[transparent] * count))
        pixels = read_image(write_png(tmp_path / "a.png", samples, chunks=chunk), **LIMITS)
        assert not pixels[:10].any()
        assert (pixels[10:].min(), pixels[10:].max()) == (0, 255)


def test_a_wholly_transparent_deep_image_is_no_sample(tmp_path: Path) -> None:
    samples = opaque(twelve_bits(COLOUR))
    samples[..., 3] = 0
    with pytest.raises(BlankImageError, match=r"a\.png is fully transparent"):
        inspect_image(write_png(tmp_path / "a.png", samples), **LIMITS)


def test_interlaced_images_are_read_with_all_their_bits(tmp_path: Path) -> None:
    for samples in (twelve_bits(SHARES), opaque(twelve_bits(SHARES)), twelve_bits(COLOUR)):
        path = write_png(tmp_path / "a.png", samples, filters=ALL_FILTERS)
        interlaced = write_png(tmp_path / "b.png", samples, filters=ALL_FILTERS, interlaced=True)
        assert np.array_equal(read_image(interlaced, **LIMITS), read_image(path, **LIMITS))


def bmp_of_32_bits(path: Path, alpha: int | np.ndarray) -> Path:
    """A BMP of version 4, whose header declares where alpha lies."""
    colours = np.round(255 * COLOUR).astype(np.uint8)[::-1, :, ::-1]  # from the bottom, blue first
    pixels = np.dstack([colours, np.broadcast_to(np.uint8(alpha), SHARES.shape)[::-1]]).tobytes()
    height, width = SHARES.shape
    size = (108, width, height, 1, 32, 3, len(pixels), 2835, 2835, 0, 0)
    header = struct.pack("<IiiHHIIiiII", *size) + struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = header.ljust(108, b"\0")
    path.write_bytes(struct.pack("<2sIHHI", b"BM", 122 + len(pixels), 0, 0, 122) + header + pixels)
    return path


def test_a_bmp_whose_alpha_is_zero_is_opaque(tmp_path: Path) -> None:
    pixels = read_image(bmp_of_32_bits(tmp_path / "a.bmp", 0), **LIMITS)
    assert np.array_equal(pixels, np.round(255 * COLOUR))
    assert np.array_equal(pixels, read_image(bmp_of_32_bits(tmp_path / "b.bmp", 255), **LIMITS))


def test_a_bmp_with_alpha_lies_over_black(tmp_path: Path) -> None:
    alpha = np.zeros(SHARES.shape, np.uint8)
    alpha[:20] = 255
    pixels = read_image(bmp_of_32_bits(tmp_path / "a.bmp", alpha), **LIMITS)
    assert np.array_equal(pixels[:20], np.round(255 * COLOUR[:20]))
    assert not pixels[20:].any()


def test_a_bmp_of_a_kind_that_is_not_read_says_so(tmp_path: Path) -> None:
    path = bmp_of_32_bits(tmp_path / "a.bmp", 255)
    data = bytearray(path.read_bytes())
    data[28:30] = struct.pack("<H", 64)  # bits of a pixel
    path.write_bytes(data)
    with pytest.raises(UnreadableImageError, match=r"a\.bmp is a BMP of an unsupported kind"):
        read_image(path, **LIMITS)


def test_a_palette_that_begins_with_white_is_read_by_its_colours(tmp_path: Path) -> None:
    for count in (2, 256):
        indices = np.round((count - 1) * SHARES).astype(np.uint8)
        greys = np.linspace(255, 0, count).round().astype(np.uint8)
        image = Image.fromarray(indices, "P")
        image.putpalette(greys.repeat(3).tolist())
        image.save(tmp_path / "a.png")
        assert np.array_equal(read_image(tmp_path / "a.png", **LIMITS), greys[indices])
