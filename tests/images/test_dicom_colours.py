"""Palettes, plain and segmented, and colour that is stored as colour."""

from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import ExplicitVRBigEndian
from support.dicoms import dicom_bytes, packed, palette, ramp, words

from imil_backend.errors import UnreadableImageError
from imil_backend.images.reading import read_image

LIMITS = {"max_bytes": 2**24, "max_pixels": 1_000_000}
INPUTS = Path(__file__).parents[1] / "fixtures" / "inputs" / "dicom_palette"
INDEXES = np.arange(256, dtype=np.uint8).reshape(1, -1)
LEVELS = np.arange(256)


def read(data: bytes) -> np.ndarray:
    return read_image(data, name="a.dcm", **LIMITS)


def coloured(
    tables: list[bytes], count: int = 256, pixels: np.ndarray = INDEXES, **options: object
) -> np.ndarray:
    syntax = {"syntax": options.pop("syntax")} if "syntax" in options else {}
    signed = {"PixelRepresentation": 1} if pixels.dtype.kind == "i" else {}
    return read(dicom_bytes(pixels, **palette(tables, count, **options), **signed, **syntax))  # type: ignore[arg-type]


def nearly(pixels: np.ndarray, expected: np.ndarray) -> bool:
    return bool(np.abs(pixels.astype(int) - expected).max() <= 1)


@pytest.mark.parametrize("name", ["pal16_bigendian", "pal_8_in_16"])
def test_a_palette_looks_alike_whatever_its_byte_order_and_entries(name):
    assert nearly(read_image(INPUTS / f"{name}.dcm", **LIMITS), read_image(INPUTS / "pal16.dcm", **LIMITS))


def test_a_palette_of_1024_entries_of_8_bits_rises_evenly():
    pixels = read_image(INPUTS / "pal8_1024_entries.dcm", **LIMITS)
    assert len(np.unique(pixels)) == 256
    assert np.abs(np.diff(pixels.mean(axis=(0, 2) if pixels.ndim == 3 else 0))).max() < 8


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("table", "bits"),
    [(lambda values, order: words(values * 257, order=order), 16)]
    + [(lambda values, order: packed(values, order=order), bits) for bits in (8, 16)]
    + [(lambda values, order: words(values, order=order), bits) for bits in (8, 16)]
    + [(lambda values, order: words(values * 16, order=order), bits) for bits in (12, 16)],
    ids=[
        "16 bits",
        "packed",
        "packed, says 16",
        "8 in 16",
        "8 in 16, says 16",
        "12 in 16",
        "12 in 16, says 16",
    ],
)
def test_entries_of_any_size_and_byte_order_make_the_same_colours(table, bits, order):
    colours = (LEVELS, LEVELS[::-1], LEVELS // 2)
    syntax = {"syntax": ExplicitVRBigEndian} if order == ">" else {}
    pixels = coloured([table(values, order) for values in colours], bits=bits, **syntax)
    assert nearly(pixels, np.stack(colours, axis=1)[None])


def test_a_dark_palette_stays_dark():
    assert coloured([words(LEVELS * 60)] * 3).max() == round(255 * 60 / 257)
    assert coloured([packed(LEVELS // 4)] * 3, bits=8).max() == 63


@pytest.mark.parametrize(("first", "written"), [(100, 100), (-50, -50), (-50, 65486)])
def test_a_palette_may_begin_anywhere_and_its_ends_stand_for_all_beyond(first, written):
    pixels = np.array([[first - 20, first, first + 1, first + 2, first + 90]], np.int16)
    data = coloured([words([0, 0x8080, 0xFFFF])] * 3, 3, pixels, first=written)
    assert data.tolist() == [[0, 0, 128, 255, 255]]


def test_a_count_of_0_is_65536():
    pixels = ramp(65536)
    shown = read(dicom_bytes(pixels, **palette([words(np.arange(65536))] * 3, 65536)))
    assert nearly(shown, pixels / 257)


SEGMENTED = {  # two entries of their own, a line of 251, the same line copied (from where it ended), one more
    "words": (16, [0, 2, 0, 100, 1, 251, 64250, 2, 1, 8, 0, 0, 1, 65535]),
    "words, offset in words": (16, [0, 2, 0, 100, 1, 251, 64250, 2, 1, 4, 0, 0, 1, 65535]),
    "bytes": (8, [0, 2, 0, 100, 1, 251, 250, 2, 1, 4, 0, 0, 0, 0, 1, 255]),
}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", SEGMENTED)
def test_segmented_palettes_are_expanded(kind, order):
    bits, numbers = SEGMENTED[kind]
    count = 2 + 251 + 251 + 1
    table = (words if bits == 16 else packed)(numbers, order=order)
    syntax = {"syntax": ExplicitVRBigEndian} if order == ">" else {}
    pixels = np.arange(count, dtype=np.uint16).reshape(1, -1)
    shown = coloured([table] * 3, count, pixels, bits=bits, segmented=True, **syntax)
    end, last = (64250, 65535) if bits == 16 else (250, 255)
    expected = np.concatenate([[0, 100], np.linspace(100, end, 252)[1:], np.full(251, end), [last]])
    assert nearly(shown, expected[None] * 255 / last)


@pytest.mark.parametrize(
    "numbers",
    [
        [],
        [1, 256, 9],  # a line from nowhere
        [2, 1, 0, 0],  # a copy of itself
        [0, 1, 5, 2, 1, 6, 0],  # a copy of a copy
        [0, 0, 0, 0, 0, 0],  # segments of nothing
        [7, 1, 1, 1],  # no such segment
        [0, 200, *range(200)],  # too few
        [0, 1, 0, 1, 300, 9],  # too many
    ],
)
def test_a_damaged_segmented_palette_is_refused_by_name(numbers):
    with pytest.raises(UnreadableImageError, match=r"a\.dcm is DICOM (with a segmented|in) palette"):
        coloured([words(numbers)] * 3, segmented=True)


def test_a_palette_that_is_missing_or_too_short_is_refused_by_name():
    with pytest.raises(UnreadableImageError, match=r"a\.dcm is DICOM in palette colour without its palette"):
        read(dicom_bytes(INDEXES, PhotometricInterpretation="PALETTE COLOR"))
    with pytest.raises(
        UnreadableImageError, match="a lookup table of 150 entries, and its header promises 256"
    ):
        coloured([words(LEVELS[:150])] * 3)


def test_monochrome_with_a_palette_is_grey():
    grey = palette([words(LEVELS * 257), words(LEVELS), words(LEVELS)], 256) | {
        "PhotometricInterpretation": "MONOCHROME1"
    }
    assert read(dicom_bytes(INDEXES, **grey)).tolist() == (255 - INDEXES).tolist()


COLOUR = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)


def test_planes_of_colour_are_put_together():
    planes = np.moveaxis(COLOUR, 2, 0).tobytes()
    data = dicom_bytes(planes, shape=COLOUR.shape, BitsAllocated=8, PlanarConfiguration=1)
    assert np.array_equal(read(data), COLOUR)


def test_ybr_becomes_rgb_also_where_pixels_share_their_colour():
    ybr = np.array([[[76, 85, 255], [76, 85, 255], [150, 44, 21], [150, 44, 21]]], np.uint8)
    expected = np.array([[[254, 0, 0], [254, 0, 0], [0, 255, 1], [0, 255, 1]]])
    assert nearly(read(dicom_bytes(ybr, PhotometricInterpretation="YBR_FULL")), expected)
    shared = bytes([76, 76, 85, 255, 150, 150, 44, 21])
    data = dicom_bytes(shared, shape=ybr.shape, BitsAllocated=8, PhotometricInterpretation="YBR_FULL_422")
    assert nearly(read(data), expected)


def test_deep_colour_is_scaled_by_its_bits_wherever_these_lie():
    assert np.array_equal(read(dicom_bytes(COLOUR.astype(np.uint16) * 257)), COLOUR)
    deep = COLOUR.astype(np.uint16) * 16 | COLOUR >> 4
    assert nearly(read(dicom_bytes(deep, BitsStored=12)), COLOUR)
    assert nearly(read(dicom_bytes(deep << 4, BitsStored=12, HighBit=15)), COLOUR)


def test_colour_that_cannot_be_meant_is_refused_by_name():
    with pytest.raises(UnreadableImageError, match="says YBR_FULL_422, where two pixels share a colour"):
        read(dicom_bytes(COLOUR, PhotometricInterpretation="YBR_FULL_422"))
    with pytest.raises(UnreadableImageError, match="YBR_ICT pixels stored as Explicit VR Little Endian"):
        read(dicom_bytes(COLOUR, PhotometricInterpretation="YBR_ICT"))
    with pytest.raises(
        UnreadableImageError, match="has CMYK as PhotometricInterpretation, which is not supported"
    ):
        read(dicom_bytes(COLOUR, PhotometricInterpretation="CMYK"))
    with pytest.raises(UnreadableImageError, match="PhotometricInterpretation that contradict"):
        read(dicom_bytes(COLOUR, PhotometricInterpretation="MONOCHROME2"))
