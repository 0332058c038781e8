"""TIFFs of every depth, byte order and kind: the right greys, as libtiff reads them where it can."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.tiff import as_libtiff_reads, recompressed, write_tiff

from imil_backend.errors import UnreadableImageError
from imil_backend.images.reading import read_image

LIMITS = {"max_bytes": 2**24, "max_pixels": 1_000_000}
INPUTS = Path(__file__).parents[1] / "fixtures" / "inputs" / "tiff_white_is_zero"
SHARES = np.linspace(0, 1, 24 * 37).reshape(24, 37)
COLOUR = np.stack([SHARES, SHARES[::-1], SHARES[:, ::-1]], axis=2)
ORDERS = pytest.mark.parametrize("big_endian", [False, True], ids=["II", "MM"])


def read(path: Path) -> np.ndarray:
    return read_image(path, **LIMITS)


def near(pixels: np.ndarray, expected: np.ndarray, tolerance: float = 1) -> bool:
    return pixels.shape == expected.shape and bool(np.abs(pixels - expected.astype(float)).max() <= tolerance)


def of(dtype: type[np.generic], shares: np.ndarray = SHARES, top: int | None = None) -> np.ndarray:
    """Shares of the whole range of a type, or from 0 to `top`."""
    if np.issubdtype(dtype, np.floating):
        return (3 * shares - 1).astype(dtype)
    low, high = (np.iinfo(dtype).min, np.iinfo(dtype).max) if top is None else (0, top)
    return (np.round(shares * (high - low)) + low).astype(np.int64).astype(dtype)


@pytest.mark.parametrize("name", sorted(path.name for path in INPUTS.iterdir()))
def test_white_is_zero_is_turned_at_the_depths_that_were_reported(name: str) -> None:
    assert near(read(INPUTS / name), read(INPUTS / "tiff16_blackiszero.tif"))


@pytest.mark.external
@ORDERS
@pytest.mark.parametrize("photometric", [0, 1, None])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_greys_are_those_of_libtiff(
    tmp_path: Path, bits: int, photometric: int | None, big_endian: bool
) -> None:
    samples = of(np.uint8 if bits <= 8 else np.uint16, top=2**bits - 1)
    packed = bits if bits < 8 else None
    path = write_tiff(
        tmp_path / "a.tif", samples, bits=packed, photometric=photometric, big_endian=big_endian
    )
    shares = samples / (2**bits - 1)
    assert near(read(path), 255 * (1 - shares if photometric == 0 else shares))
    assert near(read(path), as_libtiff_reads(path)[..., 0])


@pytest.mark.external
@ORDERS
@pytest.mark.parametrize("options", [("-c", "lzw"), ("-c", "zip:2"), ("-t", "-w", "16", "-l", "16")])
@pytest.mark.parametrize("bits", [1, 4, 8, 16, 32])
def test_compression_predictors_and_tiles_make_no_difference(
    tmp_path: Path, bits: int, options: tuple[str, ...], big_endian: bool
) -> None:
    dtype = np.uint8 if bits <= 8 else np.uint16 if bits == 16 else np.uint32
    samples = of(dtype, top=2**bits - 1)
    path = write_tiff(tmp_path / "a.tif", samples, bits=bits if bits < 8 else None, photometric=0)
    if bits < 8 and options[-1] == "zip:2":
        options = ("-c", "zip")
    again = recompressed(path, "-B" if big_endian else "-L", *options)
    assert np.array_equal(read(again), read(path))


@pytest.mark.external
def test_fax_without_a_photometric_interpretation_is_white_at_zero(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", of(np.uint8, top=1), bits=1, photometric=None)
    fax = recompressed(path, "-c", "g4")
    assert np.array_equal(read(fax), as_libtiff_reads(fax)[..., 0])
    assert np.array_equal(read(fax), 255 - read(path))


@ORDERS
@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize(
    "dtype",
    [np.int16, np.int32, np.uint32, np.float16, np.float32, np.float64],
    ids=lambda t: t.__name__,
)
def test_signs_and_depths_that_libtiff_shows_nothing_of_are_scaled_between_the_extremes(
    tmp_path: Path, dtype: type[np.generic], photometric: int, big_endian: bool
) -> None:
    path = write_tiff(tmp_path / "a.tif", of(dtype), photometric=photometric, big_endian=big_endian)
    assert near(read(path), 255 * (SHARES if photometric else 1 - SHARES))


@pytest.mark.external
def test_a_sign_of_8_bits_is_passed_over_as_libtiff_does(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", of(np.uint8).view(np.int8))
    assert np.array_equal(read(path), of(np.uint8))
    assert np.array_equal(read(path), as_libtiff_reads(path)[..., 0])


@pytest.mark.parametrize("photometric", [0, 1])
def test_twelve_bits_are_scaled_between_the_extremes(tmp_path: Path, photometric: int) -> None:
    path = write_tiff(tmp_path / "a.tif", of(np.uint16, top=4095), bits=12, photometric=photometric)
    assert near(read(path), 255 * (SHARES if photometric else 1 - SHARES))


@pytest.mark.external
@ORDERS
@pytest.mark.parametrize("compression", [None, "lzw:2"])
@pytest.mark.parametrize("top", [4095, 65535])
def test_deep_colour_is_scaled_as_deep_grey_is(
    tmp_path: Path, top: int, compression: str | None, big_endian: bool
) -> None:
    path = write_tiff(tmp_path / "a.tif", of(np.uint16, COLOUR, top), photometric=2, big_endian=big_endian)
    if compression:
        path = recompressed(path, "-c", compression)
    assert near(read(path), 255 * COLOUR)
    if top == 65535:
        assert near(read(path), as_libtiff_reads(path))


@ORDERS
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16], ids=["8", "16"])
@pytest.mark.parametrize("photometric", [0, 1, 2])
def test_alpha_is_laid_over_black(
    tmp_path: Path, photometric: int, dtype: type[np.generic], big_endian: bool
) -> None:
    colours = (COLOUR if photometric == 2 else SHARES[..., None])[:, ::-1]
    opacity = (0.25 + 0.75 * SHARES)[..., None]
    shown = 1 - colours if photometric == 0 else colours
    samples = of(dtype, np.dstack([colours, opacity]))
    options = {"photometric": photometric, "big_endian": big_endian}
    opaque = read(write_tiff(tmp_path / "a.tif", samples, extra=[0], **options))  # 0: no alpha
    assert near(opaque, 255 * shown.squeeze())
    over_black = read(write_tiff(tmp_path / "a.tif", samples, extra=[2], **options))
    assert near(over_black, 255 * (shown * opacity).squeeze(), tolerance=2)


@pytest.mark.external
@ORDERS
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16], ids=["8", "16"])
@pytest.mark.parametrize("photometric", [1, 2])
def test_colours_that_were_multiplied_by_alpha_are_over_black_already(
    tmp_path: Path, photometric: int, dtype: type[np.generic], big_endian: bool
) -> None:
    opacity = (0.25 + 0.75 * SHARES)[..., None]
    multiplied = (COLOUR if photometric == 2 else SHARES[..., None]) * opacity
    multiplied[-1, -1] = 1  # the brightest there is, so that nothing is stretched
    samples = of(dtype, np.dstack([multiplied, opacity]))
    path = write_tiff(tmp_path / "a.tif", samples, photometric=photometric, extra=[1], big_endian=big_endian)
    assert near(read(path), 255 * multiplied.squeeze(), tolerance=2)
    libtiff = as_libtiff_reads(path)
    assert near(read(path), libtiff if photometric == 2 else libtiff[..., 0], tolerance=2)


@pytest.mark.external
@ORDERS
def test_inks_are_turned_into_colours_at_both_depths(tmp_path: Path, big_endian: bool) -> None:
    inks = np.dstack([COLOUR, SHARES / 2])
    inks[0, 0], inks[0, 1] = 0, 1  # white and black are there
    expected = 255 * (1 - inks[..., :3]) * (1 - inks[..., 3:])
    for dtype in (np.uint8, np.uint16):
        path = write_tiff(tmp_path / "a.tif", of(dtype, inks), photometric=5, big_endian=big_endian)
        assert near(read(path), expected, tolerance=2)
        if dtype == np.uint8:
            assert near(read(path), as_libtiff_reads(path), tolerance=2)


@pytest.mark.external
@ORDERS
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_colour_maps_may_hold_8_bit_values(tmp_path: Path, bits: int, big_endian: bool) -> None:
    indices = of(np.uint8, top=2**bits - 1)
    colours = np.linspace([255, 0, 10], [20, 255, 200], 2**bits).round().astype(int)
    for factor in (1, 257):
        colormap = (colours.T * factor).ravel().tolist()
        options = {"photometric": 3, "colormap": colormap, "big_endian": big_endian}
        path = write_tiff(tmp_path / "a.tif", indices, bits=bits if bits < 8 else None, **options)
        assert near(read(path), colours[indices])
        assert near(read(path), as_libtiff_reads(path))


def test_a_single_plane_is_no_matter_of_planes(tmp_path: Path) -> None:
    for dtype in (np.uint8, np.uint16, np.float32):
        path = write_tiff(tmp_path / "a.tif", of(dtype), photometric=0, in_planes=True)
        assert near(read(path), 255 * (1 - SHARES))


@pytest.mark.external
def test_8_bit_planes_are_read(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", of(np.uint8, COLOUR), photometric=2, in_planes=True)
    assert near(read(path), 255 * COLOUR)
    assert near(read(recompressed(path, "-c", "lzw", "-p", "separate")), 255 * COLOUR)


@pytest.mark.external
@ORDERS
@pytest.mark.parametrize("options", [None, ("-c", "lzw:2"), ("-c", "zip", "-r", "5"), ("-f", "lsb2msb")])
def test_deep_planes_are_read(tmp_path: Path, options: tuple[str, ...] | None, big_endian: bool) -> None:
    samples = of(np.uint16, np.dstack([COLOUR, 1 - SHARES]))
    path = write_tiff(
        tmp_path / "a.tif", samples, photometric=2, extra=[2], in_planes=True, big_endian=big_endian
    )
    if options:
        path = recompressed(path, "-p", "separate", *options)
    assert near(read(path), 255 * COLOUR * (1 - SHARES)[..., None])


@pytest.mark.external
def test_bits_in_reversed_order_are_read(tmp_path: Path) -> None:
    for samples in (of(np.uint8), of(np.uint16)):
        path = write_tiff(tmp_path / "a.tif", samples, photometric=0)
        assert np.array_equal(read(recompressed(path, "-f", "lsb2msb")), read(path))
        assert np.array_equal(read(recompressed(path, "-f", "lsb2msb", "-c", "lzw")), read(path))


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"samples": of(np.float32, COLOUR), "photometric": 2}, r"32 \+ 32 \+ 32 floating point bits"),
        ({"samples": of(np.uint16, top=4095), "bits": 12, "big_endian": True}, "12 bits"),
        ({"samples": of(np.uint64, top=4095)[..., None].repeat(2, 2)}, r"64 \+ 64 bits"),
    ],
)
def test_what_is_not_read_is_refused_with_its_kind(
    tmp_path: Path, options: dict[str, object], what: str
) -> None:
    with pytest.raises(UnreadableImageError, match=rf"a\.tif is a TIFF of an unsupported kind \({what}"):
        read(write_tiff(tmp_path / "a.tif", **options))


@pytest.mark.external
def test_a_floating_point_predictor_of_the_other_byte_order_is_refused(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", of(np.float32))
    assert near(read(recompressed(path, "-L", "-c", "zip:3")), 255 * SHARES)
    with pytest.raises(UnreadableImageError, match="unsupported kind"):
        read(recompressed(path, "-B", "-c", "zip:3"))


def test_damage_is_no_kind(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", of(np.uint16))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UnreadableImageError, match="truncated or damaged"):
        read(path)


def test_orientation_turns_deep_greys_too(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(of(np.uint16)).save(path, tiffinfo={274: 6})
    assert near(read(path), np.rot90(255 * SHARES, -1))
