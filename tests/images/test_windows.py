"""Window and level, as a person names them, and what they show of each format."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.dicoms import dicom_bytes, ramp
from support.png import write_png
from support.tiff import write_tiff

from imil_backend.errors import BlankImageError, SettingsError
from imil_backend.images.intensity.scaling import Window
from imil_backend.images.intensity.windows import PRESETS, in_words, parse_window
from imil_backend.images.reading import inspect_image, png_for_display, read_image

LIMITS = {"max_bytes": 2**24, "max_pixels": 1_000_000}
FILM = np.arange(4000).reshape(50, 80).astype(np.uint16)


def shown(path: Path, window: Window | None) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png_for_display(path, **LIMITS, window=window))))


def test_a_window_is_named_by_two_numbers_or_for_ct_by_what_it_is_for() -> None:
    assert parse_window("40,400") == parse_window(" 40 , 400.0 ") == Window(40, 400)
    assert parse_window("lung") == Window(-600, 1500)
    assert parse_window("own") is None
    assert all(parse_window(name) == preset for name, preset in PRESETS.items())
    assert in_words(Window(-600, 1500)) == "center -600, width 1500 (lung)"
    assert in_words(Window(0.25, 0.5)) == "center 0.25, width 0.5"


@pytest.mark.parametrize(
    "text", ["", "40", "40,400,1", "40;400", "a,b", "40,0", "40,-9", "nan,9", "0,inf", "Lung"]
)
def test_what_is_no_window_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(SettingsError, match=r"CENTER,WIDTH .* lung, mediastinum, soft-tissue, bone, brain"):
        parse_window(text)


def test_a_window_shows_its_part_of_16_bits_and_training_keeps_all(tmp_path: Path) -> None:
    expected = np.clip((FILM.astype(float) - 1000) / 999 * 255, 0, 255)  # as DICOM's LINEAR
    for path in (
        write_png(tmp_path / "grey.png", FILM),
        write_png(tmp_path / "colour.png", np.dstack([FILM] * 3)),
        write_tiff(tmp_path / "film.tif", FILM, big_endian=True),
    ):
        assert np.abs(shown(path, Window(1500, 1000)) - expected).max() <= 0.6
        assert np.array_equal(shown(path, None), read_image(path, **LIMITS))
        assert len(np.unique(read_image(path, **LIMITS))) == 256
        assert inspect_image(path, **LIMITS, window=Window(1500, 1000)).deep


def test_a_window_counts_in_hounsfield_units_for_dicom(tmp_path: Path) -> None:
    path = tmp_path / "ct.dcm"
    own = {"WindowCenter": 400, "WindowWidth": 1800, "RescaleSlope": 2, "RescaleIntercept": -1024}
    path.write_bytes(dicom_bytes(ramp(2048), BitsStored=12, **own))
    expected = np.clip((ramp(2048) * 2.0 - 1024 + 1350) / 1499 * 255, 0, 255)
    assert np.abs(shown(path, PRESETS["lung"]) - expected).max() <= 1
    assert np.array_equal(shown(path, PRESETS["bone"]), read_image(path, **LIMITS))  # its own
    info = inspect_image(path, **LIMITS, window=PRESETS["lung"])
    assert (info.deep, info.hidden, info.window) == (True, False, PRESETS["bone"])


def test_a_window_means_nothing_for_dicom_of_8_bits_or_in_colour(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    small = (FILM // 16).astype(np.uint8)
    for pixels in (small, np.dstack([small, small[::-1], small])):
        path.write_bytes(dicom_bytes(pixels))
        assert not inspect_image(path, **LIMITS, window=Window(9000, 1)).deep
        assert np.array_equal(shown(path, Window(9000, 1)), read_image(path, **LIMITS))


def test_a_window_counts_in_stored_values_where_white_is_zero_too(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", FILM, photometric=0)
    plain = write_tiff(tmp_path / "b.tif", FILM)
    assert np.array_equal(shown(path, Window(1500, 1000)), 255 - shown(plain, Window(1500, 1000)))


def test_a_window_of_fractions_is_taken_exactly(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", (FILM / 4000).astype(np.float32))
    expected = np.clip((FILM / 4000 - 0.25) / 0.5 * 255, 0, 255)
    assert np.abs(shown(path, Window(0.5, 0.5)) - expected).max() <= 0.6


def test_a_window_means_nothing_for_8_bits(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray((FILM // 16).astype(np.uint8)).save(path)
    info = inspect_image(path, **LIMITS, window=Window(9000, 1))
    assert (info.deep, info.hidden) == (False, False)
    assert np.array_equal(shown(path, Window(9000, 1)), read_image(path, **LIMITS))


def test_a_window_beside_the_values_is_told(tmp_path: Path) -> None:
    path = write_png(tmp_path / "a.png", FILM)
    assert not inspect_image(path, **LIMITS, window=Window(1500, 1000)).hidden
    assert inspect_image(path, **LIMITS, window=Window(9000, 100)).hidden
    with pytest.raises(BlankImageError, match=r"a\.png .*: the window center 9000, width 100 hides"):
        png_for_display(path, **LIMITS, window=Window(9000, 100))
