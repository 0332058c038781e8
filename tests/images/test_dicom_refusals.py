"""Which DICOM files are read though they lack something, and the true reason where one is not."""

import builtins

import numpy as np
import pytest
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from support.dicoms import dicom_bytes, ramp

from imil_backend.errors import ImageTooLargeError, UnreadableImageError
from imil_backend.images.dicom.dicom_image import is_dicom
from imil_backend.images.reading import image_format, inspect_image, read_image

LIMITS = {"max_bytes": 2**24, "max_pixels": 1_000_000}
RAMP = ramp()
WHOLE = read_image(dicom_bytes(RAMP), **LIMITS)
FIRST = {  # element of the data set, as it begins in each transfer syntax
    ExplicitVRLittleEndian: b"\x08\x00\x16\x00UI",
    ImplicitVRLittleEndian: b"\x08\x00\x16\x00\x1a\x00",
    ExplicitVRBigEndian: b"\x00\x08\x00\x16UI",
}


def refusal(data: bytes) -> str:
    with pytest.raises(UnreadableImageError) as caught:
        read_image(data, name="a.dcm", **LIMITS)
    return str(caught.value)


def bare(syntax: str, **elements: object) -> bytes:
    """A data set without preamble and without file meta information."""
    data = dicom_bytes(RAMP, syntax=syntax, **elements)
    return data[data.index(FIRST[syntax]) :]


@pytest.mark.parametrize("syntax", FIRST)
def test_a_data_set_without_preamble_and_meta_information_is_read(syntax, tmp_path):
    path = tmp_path / "bare.dcm"
    path.write_bytes(bare(syntax))
    assert np.array_equal(read_image(path, **LIMITS), WHOLE)
    info = inspect_image(path, **LIMITS, group_key=b"key")
    assert (info.format, len(info.group)) == ("DICOM", 64)


def test_a_file_without_preamble_is_read():
    assert np.array_equal(read_image(dicom_bytes(RAMP)[132:], **LIMITS), WHOLE)


def test_a_bare_data_set_of_compressed_pixels_is_refused_by_name():
    data = dicom_bytes(
        encapsulate([b"any"]), shape=RAMP.shape, BitsAllocated=16, syntax="1.2.840.10008.1.2.4.70"
    )
    bare_data = data[data.index(FIRST[ExplicitVRLittleEndian]) :]
    assert "a.dcm is DICOM without its file header" in refusal(bare_data)


@pytest.mark.parametrize("seed", range(20))
def test_arbitrary_bytes_are_not_taken_for_dicom(seed):
    noise = np.random.default_rng(seed).bytes(4096) if seed else bytes(4096)
    for start in (
        b"",
        b"\x08\x00",
        b"\x08\x00\x05\x00CS",
        b"\x02\x00\x00\x00UL\x04\x00",
        b"\x08\x00\x16\x00",
    ):
        assert not is_dicom(start + noise)
    assert image_format(b"\x08\x00 and text, which is not DICOM at all" * 9) is None


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        (
            {"BitsStored": 12, "HighBit": 7},
            "BitsAllocated, BitsStored and HighBit that contradict each other",
        ),
        (
            {"BitsStored": 12, "HighBit": 16},
            "BitsAllocated, BitsStored and HighBit that contradict each other",
        ),
        (
            {"BitsStored": 17, "HighBit": 16},
            "BitsAllocated, BitsStored and HighBit that contradict each other",
        ),
        ({"BitsAllocated": 12}, "has 12 bits per pixel, which are not supported"),
        ({"BitsAllocated": None}, "lacks BitsAllocated"),
        ({"Rows": None}, "lacks Rows"),
        ({"Rows": 0}, "has no Rows or no Columns"),
        ({"PixelRepresentation": None}, "lacks PixelRepresentation"),
        ({"PhotometricInterpretation": ""}, "lacks PhotometricInterpretation"),
        ({"PhotometricInterpretation": "DOE^JANE"}, "has an unknown term as PhotometricInterpretation"),
        ({"PhotometricInterpretation": "HSV", "SamplesPerPixel": 3}, "has HSV as PhotometricInterpretation"),
        ({"NumberOfFrames": ("LO", "1A")}, "NumberOfFrames is not a number"),
        (
            {"FloatPixelData": ("OF", bytes(4)), "PixelData": None, "PhotometricInterpretation": "RGB"},
            "floating-point colours",
        ),
        ({"NumberOfFrames": 12}, "holds 12 pages or frames"),
        ({"PixelData": ("OW", RAMP.tobytes()[:-10])}, "promises 6,144 bytes of pixels, and 6,134 are there"),
        ({"PixelData": ("OW", RAMP.tobytes() * 2)}, "holds the pixels of 2 frames, but its header declares"),
        ({"PixelData": ("OW", b"")}, "promises 6,144 bytes of pixels, and 0 are there"),
        ({"PixelData": None}, "is DICOM without an image in it; it is truncated, or only a header"),
    ],
)
def test_a_header_that_cannot_be_followed_is_refused_with_the_reason(elements, reason):
    data = dicom_bytes(RAMP, **elements)
    with pytest.raises(UnreadableImageError, match=reason) as caught:
        read_image(data, name="a.dcm", **LIMITS)
    assert "JANE" not in str(caught.value)


def test_an_empty_number_of_frames_is_one():
    assert np.array_equal(read_image(dicom_bytes(RAMP, NumberOfFrames=""), **LIMITS), WHOLE)


def test_the_last_bytes_of_a_file_that_was_cut_off_are_missed():
    message = refusal(dicom_bytes(RAMP)[:-100])
    assert message == (
        "a.dcm is truncated or damaged: its header promises 6,144 bytes of pixels, and 6,044 are there."
    )


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("DICOMDIR", "it is a DICOMDIR, an index of files"),
        ("reportsi.dcm", "it is of the kind Basic Text SR Storage"),
        ("rtplan.dcm", "it is of the kind RT Plan Storage"),
        ("waveform_ecg.dcm", "it is of the kind 12-lead ECG Waveform Storage"),
        ("image_dfl.dcm", "is deflated DICOM"),
        ("rtdose_expb_1frame.dcm", "has 32 bits a pixel in big endian words"),
        ("MR_truncated.dcm", "promises 8,192 bytes of pixels, and 8,130 are there"),
        ("examples_ybr_color.dcm", "holds 30 pages or frames"),
    ],
)
def test_real_files_without_one_image_are_refused_with_the_reason(name, reason):
    path = get_testdata_file(name, download=False)
    with open(path, "rb") as file:  # noqa: PTH123 - a path of pydicom's
        assert reason in refusal(file.read())


def test_a_pdf_in_dicom_is_named():
    kind = "1.2.840.10008.5.1.4.1.1.104.1"
    data = dicom_bytes(RAMP, PixelData=None, SOPClassUID=kind, EncapsulatedDocument=("OB", b"%PDF-1.7"))
    assert "it is of the kind Encapsulated PDF Storage" in refusal(data[data.index(b"\x08\0\x16\0UI") :])


def compressed(syntax: str, frame: bytes = b"any") -> bytes:
    return dicom_bytes(encapsulate([frame]), shape=(4, 4), BitsAllocated=8, syntax=syntax)


@pytest.mark.parametrize(
    ("syntax", "reason"),
    [
        ("1.2.840.10008.1.2.4.100", r"is DICOM video \(MPEG2 Main Profile / Main Level\)"),
        ("1.2.840.10008.1.2.4.107", r"is DICOM video \(HEVC"),
        ("1.2.840.10008.1.2.4.94", "is DICOM compressed as JPIP Referenced, which is not supported"),
        ("1.2.840.10008.1.2.4.70", r"its pixels \(JPEG Lossless, .*\) cannot be decoded"),
        ("1.2.840.10008.1.2.4.90", r"its pixels \(JPEG 2000 .*\) cannot be decoded"),
        ("1.2.840.10008.1.2.5", r"its pixels \(RLE Lossless\) cannot be decoded"),
    ],
)
def test_a_compression_that_is_not_read_is_named(syntax, reason):
    with pytest.raises(UnreadableImageError, match=rf"a\.dcm .*{reason}"):
        read_image(compressed(syntax), name="a.dcm", **LIMITS)


def test_an_unknown_compression_is_told():
    data = compressed("1.2.840.10008.1.2.5").replace(b"1.2.840.10008.1.2.5\0", b"1.2.3.4.5.6.7.8.9.1\0")
    assert "is DICOM compressed in an unknown way, which is not supported" in refusal(data)


def test_pixels_that_are_not_as_the_header_says_are_told():
    data = compressed("1.2.840.10008.1.2.5")
    native = data.replace(b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2.1\0")
    assert "header says Explicit VR Little Endian, and its pixels are compressed" in refusal(native)
    data = dicom_bytes(RAMP).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0")
    assert "header says RLE Lossless, and its pixels are not" in refusal(data)


def test_a_decoder_that_is_not_installed_is_named(monkeypatch):
    from pydicom.pixels import get_decoder

    decoder = get_decoder("1.2.840.10008.1.2.4.80")
    monkeypatch.setattr(decoder, "_available", {})
    assert refusal(compressed("1.2.840.10008.1.2.4.80")) == (
        "a.dcm is DICOM compressed as JPEG-LS Lossless Image Compression; "
        "to read it, run: pip install 'imil-backend[dicom]'"
    )


def test_a_bare_data_set_names_the_extra_too(monkeypatch):
    real_import = builtins.__import__

    def without_pydicom(name, *rest):
        if name.startswith("pydicom"):
            raise ImportError(name)
        return real_import(name, *rest)

    data = bare(ExplicitVRLittleEndian)
    monkeypatch.setattr(builtins, "__import__", without_pydicom)
    assert "pip install 'imil-backend[dicom]'" in refusal(data)


def test_a_bare_data_set_that_is_too_large_is_refused_by_its_header():
    with pytest.raises(ImageTooLargeError, match="is 60000 x 60000"):
        read_image(bare(ImplicitVRLittleEndian, Rows=60_000, Columns=60_000), **LIMITS)
