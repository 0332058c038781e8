"""A decoded image is looked at before it is a sample."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.dicoms import dicom_bytes, ramp
from support.tiff import write_tiff

from imil_backend.errors import BlankImageError
from imil_backend.images.cache import CachedItem, PixelCache
from imil_backend.images.guard import check_picture, count_levels
from imil_backend.images.reading import inspect_image, read_sample

LIMITS = {"max_bytes": 2**24, "max_pixels": 2_000_000}
RAMP = np.linspace(0, 255, 300 * 200).reshape(300, 200).astype(np.uint8)


def look(pixels: np.ndarray, stored_levels: int = 0) -> None:
    check_picture(pixels, lambda: stored_levels, "a.dcm", "its window hides the picture")


def mostly(value: int, share: float) -> np.ndarray:
    """1,000 x 1,000 pixels of one grey, but for a ramp in a corner that takes what is left of the share."""
    pixels = np.full((1000, 1000), value, np.uint8)
    side = round((1e6 * (1 - share)) ** 0.5)
    pixels[:side, :side] = np.linspace(16, 239, side**2).reshape(side, side)
    return pixels


@pytest.mark.parametrize("value", [0, 128, 255])
def test_one_grey_is_no_picture(value: int) -> None:
    with pytest.raises(BlankImageError, match=r"a\.dcm is one grey all over: there is no picture in it\."):
        look(np.full((300, 200), value, np.uint8))
    with pytest.raises(BlankImageError, match=r"one grey .* 256 or more different values .*: its window"):
        look(np.full((300, 200), value, np.uint8), 3000)


def test_one_colour_is_no_picture() -> None:
    with pytest.raises(BlankImageError, match="one colour all over"):
        look(np.broadcast_to(np.array([9, 90, 200], np.uint8), (300, 200, 3)))


def test_two_greys_are_a_picture_only_where_two_values_are_stored() -> None:
    scan = np.where(RAMP > 90, 255, 0).astype(np.uint8)
    look(scan)
    look(scan, 2)
    scan[7, 7] = 128  # a narrow window leaves a few greys at the edges
    for shown in (scan, np.dstack([scan] * 3)):
        with pytest.raises(BlankImageError, match=r"two (greys|colours) only, though 256 or more different"):
            look(shown, 1051)
    scan[:9, :9] = 128
    look(scan, 1051)  # and so are others elsewhere


@pytest.mark.parametrize(("value", "what"), [(0, "black"), (15, "black"), (240, "white"), (255, "white")])
def test_nearly_black_or_white_is_refused_where_the_stored_values_are_many(value: int, what: str) -> None:
    with pytest.raises(BlankImageError, match=f"nearly {what} all over, though 256 or more different"):
        look(mostly(value, 0.9995), 4096)
    look(mostly(value, 0.9995))  # it is stored so
    look(mostly(value, 0.9985), 4096)  # more than a thousandth is something to look at


def test_what_is_dark_or_flat_and_yet_a_picture_passes() -> None:
    look(RAMP, 4096)
    look((RAMP // 16 + 100).astype(np.uint8), 4096)  # low contrast
    dark = np.zeros((300, 200), np.uint8)
    dark[100:130, 50:80] = RAMP[100:130, 50:80]
    look(dark, 4096)
    look(np.dstack([RAMP, RAMP[::-1], RAMP]), 4096)


def test_a_single_pixel_and_a_single_row_are_looked_at() -> None:
    with pytest.raises(BlankImageError):
        look(np.zeros((1, 1), np.uint8))
    look(RAMP[150:151])


def test_levels_are_counted_to_a_limit() -> None:
    assert count_levels(np.array([[1, 1], [2, 9]])) == 3
    assert count_levels(np.arange(70_000)) == 256


def test_a_file_without_a_picture_is_no_sample_in_any_format(tmp_path: Path) -> None:
    for suffix in ("png", "jpg", "bmp", "tif", "webp"):
        path = tmp_path / f"flat.{suffix}"
        Image.new("L", (60, 40), 90).save(path)
        for read in (inspect_image, read_sample):
            with pytest.raises(BlankImageError, match=rf"flat\.{suffix} is one grey all over"):
                read(path, **LIMITS)


def test_a_sample_of_before_the_guard_leaves_training_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "flat.png"
    Image.new("L", (60, 40), 90).save(path)
    cache = PixelCache(tmp_path / "cache", 32, 1, **LIMITS)
    assert cache.fill([CachedItem(path, hashlib.sha256(path.read_bytes()).hexdigest())]).tolist() == [-1]
    assert cache.failures == [(0, "flat.png is one grey all over: there is no picture in it.")]


def test_a_hot_pixel_that_takes_the_whole_range_is_told(tmp_path: Path) -> None:
    film = RAMP.astype(np.uint16) * 8
    film[7, 7] = 65535
    with pytest.raises(BlankImageError, match=r"nearly black .* a few values far above or below the others"):
        inspect_image(write_tiff(tmp_path / "hot.tif", film), **LIMITS)


def test_a_colour_map_that_hides_the_picture_is_told(tmp_path: Path) -> None:
    path = tmp_path / "dark.png"
    image = Image.fromarray(RAMP, "P")
    image.putpalette([0, 0, 0] * 256)
    image.save(path)
    with pytest.raises(BlankImageError, match=r"256 or more different values are stored: its colour map"):
        inspect_image(path, **LIMITS)


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_a_wholly_transparent_image_is_no_sample(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.dstack([RAMP, RAMP, RAMP, 0 * RAMP])).save(path, lossless=True, exact=True)
    with pytest.raises(BlankImageError, match=rf"a\.{suffix} is fully transparent; save it without"):
        inspect_image(path, **LIMITS)


@pytest.mark.parametrize(
    ("window", "reason"),
    [
        ((9000, 100), "one grey .*: the window center 9000, width 100 hides the picture"),
        ((2000, 2), "two greys only, .*: the window center 2000, width 2 hides the picture"),
    ],
)
def test_a_window_of_a_dicom_file_that_hides_the_picture_is_told(
    tmp_path: Path, window: tuple[int, int], reason: str
) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(dicom_bytes(ramp(), WindowCenter=window[0], WindowWidth=window[1]))
    with pytest.raises(BlankImageError, match=rf"a\.dcm is {reason}"):
        inspect_image(path, **LIMITS)


def test_a_dark_colour_picture_in_dicom_is_stored_so(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(dicom_bytes(np.dstack([RAMP // 16, RAMP[::-1] // 16, RAMP // 17]).astype(np.uint8)))
    assert inspect_image(path, **LIMITS).channels == 3


def test_scans_of_one_bit_pass(tmp_path: Path) -> None:
    for suffix in ("png", "tif", "bmp"):
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(RAMP > 90).save(path)
        assert inspect_image(path, **LIMITS).channels == 1


@pytest.mark.xrays
def test_no_real_film_is_set_aside(xray_zip: Path) -> None:
    with zipfile.ZipFile(xray_zip) as archive:
        names = [name for name in archive.namelist() if "/images/" in name and not name.endswith("/")]
        for name in names[::10]:
            read_sample(archive.read(name), **LIMITS, name=name)
