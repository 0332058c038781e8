"""Damaged DICOM files: a picture or one of our own errors, within little memory and time."""

import tracemalloc
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian
from support.dicoms import dicom_bytes, packed, palette, ramp, table_item, words

from imil_backend.errors import ImageError
from imil_backend.images.reading import read_image

LIMITS = {"max_bytes": 2**20, "max_pixels": 100_000}
MOST_MEMORY = 64 * 2**20
TELLING = [
    b"\0\0",
    b"\xff\xff",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\\\\",
    b"nan ",
    b"-1",
    b"SQ",
    b"UN",
]


def _real(name: str) -> bytes:
    with open(get_testdata_file(name, download=False), "rb") as file:  # noqa: PTH123 - a path of pydicom's
        return file.read()


SMALL = ramp(4096, 6, 8)
WINDOW = {
    "BitsStored": 12,
    "WindowCenter": [40, 50],
    "WindowWidth": [400, 30],
    "PixelPaddingValue": ("US", 9),
}
LUT = [table_item(packed(range(256)), 256, bits=8)]
SEGMENTED = palette([words([0, 2, 0, 100, 1, 251, 64250, 2, 1, 8, 0])] * 3, 504, segmented=True)
FILES = [
    dicom_bytes(SMALL, **WINDOW, RescaleSlope=1, RescaleIntercept=-1024),
    dicom_bytes(SMALL, **WINDOW, syntax=ExplicitVRBigEndian, VOILUTSequence=LUT),
    dicom_bytes(SMALL, **WINDOW, syntax=ImplicitVRLittleEndian, ModalityLUTSequence=LUT),
    dicom_bytes(SMALL, **WINDOW, syntax=ImplicitVRLittleEndian)[340:],
    dicom_bytes(SMALL % 504, **SEGMENTED),
    dicom_bytes(np.zeros((4, 6, 3), np.uint8), PhotometricInterpretation="YBR_FULL"),
    *map(_real, ("SC_rgb_small_odd_jpeg.dcm", "SC_rgb_rle.dcm", "rtdose_rle_1frame.dcm")),
    *map(_real, ("JPEGLSNearLossless_16.dcm", "SC_rgb_gdcm_KY.dcm", "liver_expb_1frame.dcm")),
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A file that was cut off, of which bytes were changed, or whose end is another file's."""
    data = draw(st.sampled_from(FILES))
    head = st.integers(0, min(len(data), 2000) - 1)
    how = draw(st.sampled_from(["cut off", "flipped", "overwritten", "shortened", "spliced"]))
    place = draw(head)
    if how == "cut off":
        return data[:place]
    if how == "overwritten":
        telling = draw(st.sampled_from(TELLING))
        return data[:place] + telling + data[place + len(telling) :]
    if how == "shortened":
        return data[:place] + data[place + draw(st.integers(1, 40)) :]
    if how == "spliced":
        other = draw(st.sampled_from(FILES))
        return data[:place] + other[draw(st.integers(0, len(other) - 1)) :]
    changed = bytearray(data)
    for position in draw(st.lists(head, min_size=1, max_size=8)):
        changed[position] ^= 1 << draw(st.integers(0, 7))
    return bytes(changed)


@pytest.mark.slow
@settings(
    max_examples=300,
    deadline=timedelta(seconds=10),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(damaged())
def test_a_damaged_file_is_a_picture_or_an_error_of_ours(data):
    tracemalloc.start()
    try:
        pixels = read_image(data, name="a.dcm", **LIMITS)
    except ImageError as error:
        assert str(error).startswith("a.dcm ")
        assert "PAT-77" not in str(error)
    else:
        assert pixels.dtype == np.uint8
        assert pixels.shape[2:] in {(), (3,)}
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < MOST_MEMORY
