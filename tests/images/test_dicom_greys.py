"""What a DICOM file's greys become, by the elements that say how they are meant."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian
from support.dicoms import dicom_bytes, packed, ramp, table_item, words

from imil_backend.errors import UnreadableImageError
from imil_backend.images.dicom.dicom_image import DicomImage, read_dicom
from imil_backend.images.intensity.scaling import Window
from imil_backend.images.reading import read_image

LIMITS = {"max_bytes": 2**24, "max_pixels": 1_000_000}
INPUTS = Path(__file__).parents[1] / "fixtures" / "inputs"
RAMP = ramp()
WHOLE = ramp(256).astype(np.uint8)  # RAMP from black to white


def read(data: bytes, **options: object) -> DicomImage:
    return read_dicom(data, "a.dcm", check_size=lambda *_: None, **options)


def greys(pixels: np.ndarray, **elements: object) -> list[int]:
    """Of one row of pixels."""
    return read(dicom_bytes(pixels.reshape(1, -1), **elements)).pixels[0].tolist()


def nearly(pixels: np.ndarray, expected: np.ndarray) -> bool:
    return bool(np.abs(pixels.astype(int) - expected).max() <= 1)


@pytest.mark.parametrize("name", ["12", "8_in_16", "_says10_has12", "_says16_has12", "_says16_has12_window"])
def test_a_voi_lut_goes_from_black_to_white_whatever_its_descriptor_says(name):
    path = INPUTS / "dicom_voi_lut_depth" / f"voilut{name}.dcm"
    header = pydicom.dcmread(path)
    table = np.frombuffer(header.VOILUTSequence[0].LUTData, "<u2")
    assert nearly(read_image(path, **LIMITS), table[header.pixel_array] / table.max() * 255)


def test_a_packed_voi_lut_is_a_ramp():
    path = INPUTS / "dicom_voi_lut_8bit_packed" / "voilut8_packed.dcm"
    assert nearly(read_image(path, **LIMITS), pydicom.dcmread(path).pixel_array / 4095 * 255)


@pytest.mark.parametrize(
    "path", sorted(INPUTS.glob("dicom_empty_elements/*.dcm")), ids=lambda path: path.stem
)
def test_an_empty_element_is_an_absent_one(path):
    stored = pydicom.dcmread(path).pixel_array
    low, high = 0, 4095
    if path.stem == "pydicom1237_case2":  # its window is whole, its VOI LUT has no entries
        low, high = 2607 - 0.5 - 2784 / 2, 2607 - 0.5 + 2784 / 2
    assert nearly(read_image(path, **LIMITS), np.clip((stored - low) / (high - low), 0, 1) * 255)


def test_a_voi_lut_ends_at_white_though_its_largest_entry_is_below_its_depth():
    item = table_item(words(np.arange(4096) * 3000 // 4095), 4096, bits=12)
    assert nearly(read(dicom_bytes(RAMP, BitsStored=12, VOILUTSequence=[item])).pixels, WHOLE)


def test_the_first_voi_lut_with_entries_counts_and_wins_over_the_window():
    items = [Dataset(), table_item(words([0, 40, 80]), 3, bits=8), table_item(words([9, 9, 9]), 3, bits=8)]
    pixels = np.array([0, 1, 2, 7], np.uint16)
    assert greys(pixels, VOILUTSequence=items, WindowCenter=1, WindowWidth=1) == [0, 128, 255, 255]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("count", [255, 256])
def test_eight_bit_entries_are_packed_two_in_a_word_in_either_byte_order(order, count):
    table = packed(np.arange(count), order=order)
    syntax = {"syntax": ExplicitVRBigEndian} if order == ">" else {}
    pixels = np.arange(count, dtype=np.uint16)
    expected = np.rint(np.arange(count) * 255 / (count - 1)).tolist()
    assert greys(pixels, VOILUTSequence=[table_item(table, count, bits=8)], **syntax) == expected
    assert greys(pixels, ModalityLUTSequence=[table_item(table, count, bits=8)], **syntax) == expected


def test_a_modality_lut_of_any_depth_gives_the_values_that_the_window_is_for():
    item = table_item(words([100, 300, 1000, 50]), 4, first=10, bits=10)
    pixels = np.array([0, 10, 11, 12, 13, 90], np.uint16)  # below and above the table: its ends
    window = {"WindowCenter": 200.5, "WindowWidth": 201}
    assert greys(pixels, ModalityLUTSequence=[item], **window) == [0, 0, 255, 255, 0, 0]
    assert greys(pixels, ModalityLUTSequence=[item]) == [13, 13, 67, 255, 0, 0]


def test_a_table_begins_below_zero_however_that_is_written():
    pixels = np.array([-7, -5, -4, -3, 40], np.int16)
    for first in (-5, 65531):
        item = table_item(words([0, 100, 200]), 3, first=first)
        assert greys(pixels, PixelRepresentation=1, ModalityLUTSequence=[item]) == [0, 0, 128, 255, 255]
        assert greys(pixels, PixelRepresentation=1, VOILUTSequence=[item]) == [0, 0, 128, 255, 255]


def test_a_table_may_have_65536_entries():
    item = table_item(words(np.arange(65536)), 65536)
    assert greys(np.array([0, 32768, 65535], np.uint16), VOILUTSequence=[item]) == [0, 128, 255]


def test_the_first_whole_window_of_several_is_shown():
    pixels = np.array([0, 101, 200], np.uint16)
    centers, widths = ("LO", ["", "none", "50", "100.5", "7"]), ("LO", ["9", "9", "-4", "201", "8"])
    image = read(dicom_bytes(pixels.reshape(1, -1), WindowCenter=centers, WindowWidth=widths))
    assert image.window == Window(100.5, 201)
    assert image.pixels.tolist() == [[0, 129, 255]]


@pytest.mark.parametrize(
    "elements",
    [
        {"WindowWidth": 10},
        {"WindowCenter": 10},
        {"WindowCenter": 10, "WindowWidth": 0},
        {"WindowCenter": 10, "WindowWidth": -4096},
        {"WindowCenter": 10, "WindowWidth": 0.5},  # LINEAR is for 1 and above
        {"WindowCenter": 10, "WindowWidth": -4, "VOILUTFunction": "SIGMOID"},
        {"WindowCenter": ("LO", "40,5"), "WindowWidth": ("LO", "80,5")},
        {"WindowCenter": ("LO", "nan"), "WindowWidth": ("LO", "inf")},
    ],
)
def test_what_is_no_window_leaves_the_extremes(elements):
    image = read(dicom_bytes(np.array([[100, 301, 500]], np.uint16), **elements))
    assert image.window is None
    assert image.pixels.tolist() == [[0, 128, 255]]


def test_a_width_below_one_is_a_window_where_its_function_allows_it():
    pixels = np.array([[0, 1, 2]], np.uint16)
    elements = {"WindowCenter": 1, "WindowWidth": 0.5, "VOILUTFunction": "LINEAR_EXACT"}
    assert read(dicom_bytes(pixels, **elements)).pixels.tolist() == [[0, 128, 255]]


def test_another_window_may_be_asked_for_and_is_named():
    data = dicom_bytes(
        RAMP, BitsStored=12, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=0, WindowWidth=9
    )
    image = read(data, window=Window(40, 400))
    assert image.window == Window(40, 400)
    expected = np.clip((RAMP.astype(int) - 1024 - 39.5) / 399 + 0.5, 0, 1) * 255
    assert nearly(image.pixels, expected)
    narrow = read(dicom_bytes(np.array([[0, 1, 2]], np.uint16)), window=Window(1, 0.5))
    assert narrow.pixels.tolist() == [[0, 128, 255]]
    lut = dicom_bytes(RAMP, BitsStored=12, VOILUTSequence=[table_item(words([0, 9]), 2)])
    assert nearly(read(lut, window=Window(2048, 4096)).pixels, WHOLE)


def test_the_window_that_was_used_is_told():
    assert read(dicom_bytes(RAMP, WindowCenter=40, WindowWidth=400)).window == Window(40, 400)
    assert read(dicom_bytes(RAMP)).window is None
    lut = {"VOILUTSequence": [table_item(words([0, 9]), 2)], "WindowCenter": 40, "WindowWidth": 400}
    assert read(dicom_bytes(RAMP, **lut)).window is None
    assert read(dicom_bytes(np.zeros((4, 5, 3), np.uint8)), window=Window(40, 400)).window is None


def test_the_stored_levels_are_counted_before_any_transformation():
    window = {"WindowCenter": 30_000, "WindowWidth": 1}
    assert read(dicom_bytes(RAMP, BitsStored=12, **window)).stored_levels == 256  # at most
    assert read(dicom_bytes(RAMP % 7, **window)).stored_levels == 7
    assert (
        read(dicom_bytes(RAMP % 2 * 0x9000 | 5, BitsStored=12)).stored_levels == 1
    )  # overlays are no levels
    assert read(dicom_bytes((RAMP % 5).astype(np.uint32))).stored_levels == 5
    assert read(dicom_bytes(RAMP.astype(np.uint32))).stored_levels == 256
    assert read(dicom_bytes(np.zeros((4, 5, 3), np.uint8))).stored_levels == 1


@pytest.mark.parametrize("name", ["window_beside_the_values", "window_one"])
def test_a_window_that_leaves_one_grey_is_told_by_the_stored_levels(name):
    image = read((INPUTS / "dicom_nothing_left" / f"{name}.dcm").read_bytes())
    assert (len(np.unique(image.pixels)), image.stored_levels) == (1, 256)


def test_a_negative_width_leaves_the_extremes():
    image = read((INPUTS / "dicom_nothing_left" / "window_negative.dcm").read_bytes())
    stored = pydicom.dcmread(INPUTS / "dicom_empty_elements" / "plain12.dcm").pixel_array
    assert image.window is None
    assert nearly(image.pixels, stored / 4095 * 255)


def test_a_value_lies_where_high_bit_says_and_other_bits_are_not_part_of_it():
    assert nearly(read(dicom_bytes(RAMP << 4, BitsStored=12, HighBit=15)).pixels, WHOLE)
    assert nearly(read(dicom_bytes(RAMP << 2 | 0x8003, BitsStored=12, HighBit=13)).pixels, WHOLE)
    assert nearly(read(dicom_bytes(RAMP | 0xA000, BitsStored=12)).pixels, WHOLE)
    assert nearly(read(dicom_bytes(WHOLE >> 4 | 0x50, BitsStored=4)).pixels, (WHOLE >> 4) * 17)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", ExplicitVRBigEndian, ImplicitVRLittleEndian])
def test_signed_values_need_not_be_extended(syntax):
    values = np.array([-2048, -1, 0, 2047], np.int16)
    elements = {"BitsStored": 12, "PixelRepresentation": 1, "syntax": syntax}
    expected = [0, 127, 128, 255]
    assert greys(values, **elements) == expected
    assert greys(values.view(np.uint16) & 0xFFF, **elements) == expected
    assert greys(values << 4, **elements, HighBit=15) == expected


def test_padding_is_black_and_no_extreme():
    pixels = np.array([65535, 100, 301, 500], np.uint16)
    padding = {"PixelPaddingValue": ("US", 65535)}
    assert greys(pixels, **padding) == [0, 0, 128, 255]
    assert greys(pixels, **padding, PhotometricInterpretation="MONOCHROME1") == [0, 255, 127, 0]
    assert greys(pixels, **padding, WindowCenter=300.5, WindowWidth=401) == [0, 0, 128, 255]


def test_a_range_of_padding_is_black_and_no_extreme_from_either_end():
    pixels = np.array([0, 7, 10, 100, 301, 500], np.uint16)
    for value, limit in ((0, 10), (10, 0)):
        padding = {"PixelPaddingValue": ("US", value), "PixelPaddingRangeLimit": ("US", limit)}
        assert greys(pixels, **padding) == [0, 0, 0, 0, 128, 255]


def test_padding_counts_before_rescaling_however_its_sign_is_written():
    pixels = np.array([-2000, 0, 1000, 2000], np.int16)
    elements = {"PixelRepresentation": 1, "RescaleSlope": 2, "RescaleIntercept": -1024}
    for padding in (("SS", -2000), ("US", 63536)):
        assert greys(pixels, **elements, PixelPaddingValue=padding) == [0, 0, 128, 255]


def test_padding_may_need_more_bits_than_are_stored():
    pixels = np.array([63536, 100, 301, 500], np.uint16)
    assert greys(pixels, BitsStored=12, PixelPaddingValue=("US", 63536)) == [0, 0, 128, 255]


def test_nothing_but_padding_is_black():
    assert greys(np.full(4, 9, np.uint16), PixelPaddingValue=("US", 9)) == [0, 0, 0, 0]


def test_floats_are_read_and_what_is_no_number_is_black():
    values = np.array([[np.nan, -1.0, 0.0, 1.0]], np.float32)
    elements = {
        "PixelData": None,
        "FloatPixelData": ("OF", values.tobytes()),
        "BitsStored": None,
        "HighBit": None,
    }
    elements |= {"PixelRepresentation": None, "BitsAllocated": 32}
    for photometric, expected in (("MONOCHROME2", [0, 0, 128, 255]), ("MONOCHROME1", [0, 255, 127, 0])):
        data = dicom_bytes(b"", shape=(1, 4), PhotometricInterpretation=photometric, **elements)
        assert read(data).pixels.tolist() == [expected]
    padded = dicom_bytes(b"", shape=(1, 4), FloatPixelPaddingValue=-1.0, **elements)
    assert read(padded).pixels.tolist() == [[0, 0, 0, 255]]
    double = {"DoubleFloatPixelData": ("OD", values.astype(np.float64).tobytes()), "FloatPixelData": None}
    assert read(dicom_bytes(b"", shape=(1, 4), **{**elements, **double})).pixels.tolist() == [
        [0, 0, 128, 255]
    ]


def test_neighbours_far_from_zero_are_told_apart():
    values = np.array([2**30, 2**30 + 1, 2**30 + 2], np.uint32)
    assert greys(values) == [0, 128, 255]


@pytest.mark.parametrize(
    ("photometric", "shape", "inverse"),
    [
        ("MONOCHROME1", None, True),
        ("MONOCHROME1", "INVERSE", True),
        ("MONOCHROME2", "INVERSE", True),
        ("MONOCHROME2", "IDENTITY", False),
        ("MONOCHROME2", "LIN OD", False),
    ],
)
def test_low_values_are_bright_where_the_header_says_so(photometric, shape, inverse):
    pixels = np.array([0, 1], np.uint16)
    elements = {"PhotometricInterpretation": photometric, "PresentationLUTShape": shape}
    assert greys(pixels, **elements) == ([255, 0] if inverse else [0, 255])


def test_a_single_slope_or_intercept_is_no_rescaling():
    pixels = np.array([0, 101, 200], np.uint16)
    window = {"WindowCenter": 100.5, "WindowWidth": 201}
    assert greys(pixels, **window, RescaleIntercept=-1024) == [0, 129, 255]
    assert greys(pixels, **window, RescaleSlope=5) == [0, 129, 255]


@pytest.mark.parametrize(
    ("slope", "reason"),
    [("0", "is 0, which leaves a single grey"), ("NaN", "is not a number"), ("1,5", "is not a number")],
)
def test_a_slope_that_cannot_be_meant_is_a_reason_to_refuse(slope, reason):
    data = dicom_bytes(RAMP, RescaleSlope=("LO", slope), RescaleIntercept=0)
    with pytest.raises(UnreadableImageError, match=rf"a\.dcm is DICOM whose RescaleSlope {reason}"):
        read(data)


def test_a_slope_beyond_all_numbers_is_no_reason_to_stop():
    data = dicom_bytes(RAMP, RescaleSlope="1e308", RescaleIntercept="1e308")
    assert read(data).stored_levels == 256


def test_a_slope_of_zero_is_refused_in_a_file_that_has_a_window():
    path = INPUTS / "dicom_nothing_left" / "slope_zero.dcm"
    with pytest.raises(UnreadableImageError, match=r"slope_zero\.dcm is DICOM whose RescaleSlope is 0"):
        read_image(path, **LIMITS)


def test_an_element_of_unknown_representation_is_read_by_the_dictionary():
    data = dicom_bytes(
        np.array([[0, 100, 200]], np.uint16), WindowCenter=("UN", b"100.5 "), WindowWidth=("UN", b"201 ")
    )
    assert read(data).window == Window(100.5, 201)
