import builtins
import hashlib
import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from imil_backend.errors import ImageTooLargeError, UnreadableImageError
from imil_backend.images.masks.masks import mask_from_png
from imil_backend.images.reading import ImageInfo, inspect_image, load_bytes, png_for_display, read_image

LIMITS = {"max_bytes": 2**24, "max_pixels": 1_000_000}


def gradient(height: int = 40, width: int = 60) -> np.ndarray:
    return np.linspace(0, 255, height * width).reshape(height, width).astype(np.uint8)


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def dicom(path: Path, pixels: np.ndarray, **elements: object) -> Path:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = Dataset()
    data.file_meta = meta
    data.PatientID = "PAT-77"
    data.PatientName = "Doe^Jane"
    data.Rows, data.Columns = pixels.shape[:2]
    data.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    data.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        data.PlanarConfiguration = 0
    data.BitsAllocated = data.BitsStored = 8 * pixels.dtype.itemsize
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = 0
    for name, value in elements.items():
        setattr(data, name, value)
    data.PixelData = pixels.tobytes()
    data.save_as(path, enforce_file_format=True)
    return path


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.mark.parametrize(
    ("suffix", "file_format", "shown"),
    [
        ("png", "PNG", True),
        ("jpg", "JPEG", True),
        ("bmp", "BMP", True),
        ("webp", "WEBP", True),
        ("tif", "TIFF", False),
    ],
)
def test_formats_are_told_and_decoded(tmp_path, suffix, file_format, shown):
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path / f"a.{suffix}", gradient(), **options)
    info = inspect_image(path, **LIMITS)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert info == ImageInfo(sha256, 60, 40, 1, file_format, shown)
    pixels = read_image(path, **LIMITS)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - gradient()).mean() < 3


def test_format_comes_from_the_bytes_not_the_name(tmp_path):
    path = save(tmp_path / "a.png", gradient(), format="JPEG")
    assert inspect_image(path, **LIMITS).format == "JPEG"


def test_colour_stays_colour(tmp_path):
    pixels = np.stack([gradient(), gradient()[::-1], gradient()], axis=2)
    path = save(tmp_path / "a.png", pixels)
    assert inspect_image(path, **LIMITS).channels == 3
    assert np.array_equal(read_image(path, **LIMITS), pixels)


def test_equal_channels_are_grey(tmp_path):
    path = save(tmp_path / "a.jpg", np.dstack([gradient()] * 3))
    with Image.open(path) as image:
        assert image.mode == "RGB"
    assert inspect_image(path, **LIMITS).channels == 1
    assert read_image(path, **LIMITS).shape == (40, 60)


def test_one_coloured_pixel_is_colour(tmp_path):
    pixels = np.dstack([gradient()] * 3)
    pixels[7, 9] = (255, 0, 0)
    assert inspect_image(save(tmp_path / "a.png", pixels), **LIMITS).channels == 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    pixels = np.zeros((40, 60), np.uint8)
    pixels[:10, :20] = 255  # top left, as stored
    path = save(tmp_path / "a.jpg", pixels, exif=exif, quality=95)
    info = inspect_image(path, **LIMITS)
    assert (info.width, info.height) == ((60, 40) if orientation < 5 else (40, 60))
    assert info.shown_as_is
    bright_rows, bright_columns = np.nonzero(read_image(path, **LIMITS) > 128)
    corner = (bright_rows.min() == 0, bright_columns.min() == 0)
    expected = [(1, 1), (1, 0), (0, 0), (0, 1), (1, 1), (1, 0), (0, 0), (0, 1)]
    assert corner == expected[orientation - 1]


def test_orientation_of_a_png_is_applied_and_its_frame_not_left_to_browsers(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    info = inspect_image(save(tmp_path / "a.png", gradient(), exif=exif), **LIMITS)
    assert (info.width, info.height, info.shown_as_is) == (40, 60, False)


def test_damaged_exif_is_no_reason_to_refuse(tmp_path):
    path = save(tmp_path / "a.jpg", gradient(), exif=b"Exif\0\0nonsense")
    assert inspect_image(path, **LIMITS).width == 60


def test_sixteen_bits_are_scaled_between_the_extremes(tmp_path):
    pixels = gradient().astype(np.uint16) * 4 + 1000
    path = save(tmp_path / "a.png", pixels)
    info = inspect_image(path, **LIMITS)
    assert (info.channels, info.shown_as_is) == (1, False)
    assert np.array_equal(read_image(path, **LIMITS), gradient())


def test_sixteen_bits_of_one_value_are_black(tmp_path):
    path = save(tmp_path / "a.png", np.full((4, 5), 30000, np.uint16))
    assert not read_image(path, **LIMITS).any()


def test_float_tiff_with_gaps_is_scaled(tmp_path):
    pixels = gradient().astype(np.float32)
    pixels[0, 5] = np.nan
    assert read_image(save(tmp_path / "a.tif", pixels), **LIMITS).max() == 255


def test_transparency_lies_over_black(tmp_path):
    pixels = np.full((4, 6, 4), 200, np.uint8)
    pixels[:2, :, 3] = 0
    pixels[2:, :, 3] = 255
    read = read_image(save(tmp_path / "a.png", pixels), **LIMITS)
    assert read.shape == (4, 6)
    assert (read[:2] == 0).all() and (read[2:] == 200).all()


@pytest.mark.parametrize("mode", ["1", "P", "LA", "CMYK"])
def test_other_modes_become_grey_or_colour(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.fromarray(gradient()).convert(mode).save(path)
    assert read_image(path, **LIMITS).shape[:2] == (40, 60)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp", "dcm"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_truncation_is_found(tmp_path, suffix, kept):
    noise = np.random.default_rng(0).integers(0, 255, (90, 80), np.uint8)
    path = tmp_path / f"cut.{suffix}"
    dicom(path, noise) if suffix == "dcm" else save(path, noise)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(UnreadableImageError, match=rf"cut\.{suffix} is truncated or damaged"):
        inspect_image(path, **LIMITS)


def test_zero_bytes_no_image_and_no_file_are_told(tmp_path):
    empty = tmp_path / "empty.jpg"
    empty.touch()
    with pytest.raises(UnreadableImageError, match=r"empty\.jpg is empty"):
        inspect_image(empty, **LIMITS)
    text = tmp_path / "notes.jpg"
    text.write_text("no image at all")
    with pytest.raises(UnreadableImageError, match=r"notes\.jpg is not a JPEG"):
        inspect_image(text, **LIMITS)
    with pytest.raises(UnreadableImageError, match=r"gone\.jpg cannot be read: No such file"):
        inspect_image(tmp_path / "gone.jpg", **LIMITS)
    with pytest.raises(UnreadableImageError, match="cannot be read: it is not a regular file"):
        inspect_image(tmp_path, **LIMITS)


def test_postscript_never_reaches_an_interpreter(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(UnreadableImageError, match="is not a JPEG"):
        inspect_image(path, **LIMITS)


@pytest.mark.parametrize("side", [1_001, 12_000, 60_000])
def test_pixel_bomb_is_refused_by_its_header(tmp_path, side):
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"never decoded")
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb)
    with pytest.raises(ImageTooLargeError, match=rf"bomb\.png is {side} x {side}"):
        inspect_image(path, **LIMITS)


def test_limit_may_be_above_pillows_own(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    path = save(tmp_path / "a.png", gradient())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert inspect_image(path, **LIMITS).width == 60


def test_too_many_bytes_are_refused_unread(tmp_path):
    path = save(tmp_path / "a.png", gradient())
    with pytest.raises(ImageTooLargeError, match=r"a\.png has .* bytes; the limit is 50"):
        inspect_image(path, max_bytes=50, max_pixels=10**6)
    with pytest.raises(ImageTooLargeError, match="task 3 has"):
        read_image(path.read_bytes(), max_bytes=50, max_pixels=10**6, name="task 3")


@pytest.mark.parametrize("suffix", ["tif", "png", "webp"])
def test_several_pages_are_refused_by_name(tmp_path, suffix):
    pages = [Image.fromarray(np.full((8, 8), value, np.uint8)) for value in (10, 90, 200)]
    path = tmp_path / f"pages.{suffix}"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    with pytest.raises(UnreadableImageError, match=rf"pages\.{suffix} holds 3 pages or frames"):
        inspect_image(path, **LIMITS)


def test_bytes_are_read_like_a_file(tmp_path):
    path = save(tmp_path / "a.png", gradient())
    assert np.array_equal(read_image(path.read_bytes(), **LIMITS), gradient())


def test_png_for_display_has_the_frame_of_the_mask(tmp_path):
    path = save(tmp_path / "a.png", gradient().astype(np.uint16) * 200)
    png = Image.open(io.BytesIO(png_for_display(path, **LIMITS)))
    assert (png.format, png.mode, png.size) == ("PNG", "L", (60, 40))
    assert np.array_equal(np.asarray(png), read_image(path, **LIMITS))


def test_draft_is_smaller_but_at_least_as_large_as_asked(tmp_path):
    path = save(tmp_path / "a.jpg", gradient(400, 600))
    assert read_image(path, **LIMITS, draft_size=100).shape == (100, 150)
    assert read_image(path, **LIMITS, draft_size=101).shape == (200, 300)


def test_dicom_monochrome1_is_windowed_and_inverted(tmp_path):
    pixels = np.array([[0, 1000, 1500, 2000, 4000]], np.uint16)
    path = dicom(
        tmp_path / "a.dcm",
        pixels,
        PhotometricInterpretation="MONOCHROME1",
        WindowCenter=1500.5,
        WindowWidth=1001,
    )
    assert read_image(path, **LIMITS).tolist() == [[255, 255, 127, 0, 0]]


def test_dicom_window_follows_the_rescaling(tmp_path):
    elements = {
        "RescaleSlope": 2,
        "RescaleIntercept": -1000,
        "WindowCenter": [40, 500],
        "WindowWidth": [81, 9],
    }
    pixels = np.array([[0, 500, 520, 540, 900]], np.uint16)  # -1000, 0, 40, 80, 800 after rescaling
    path = dicom(tmp_path / "a.dcm", pixels, **elements)
    assert read_image(path, **LIMITS).tolist() == [[0, 2, 129, 255, 255]]
    path = dicom(tmp_path / "b.dcm", pixels, VOILUTFunction="LINEAR_EXACT", **elements)
    assert read_image(path, **LIMITS).tolist() == [[0, 2, 128, 253, 255]]
    path = dicom(tmp_path / "c.dcm", pixels, VOILUTFunction="SIGMOID", **elements)
    assert read_image(path, **LIMITS)[0, 2] == 128


def test_dicom_without_window_is_scaled_between_the_extremes(tmp_path):
    path = dicom(tmp_path / "a.dcm", gradient().astype(np.uint16) * 10 + 7)
    assert np.array_equal(read_image(path, **LIMITS), gradient())


def test_dicom_voi_lut_wins_over_the_window(tmp_path):
    lut = Dataset()
    lut.LUTDescriptor = [4, 0, 8]
    lut["LUTDescriptor"].VR = "US"
    lut.add_new("LUTData", "OW", np.array([0, 10, 200, 255], np.uint16).tobytes())
    pixels = np.array([[0, 1, 2, 3, 9]], np.uint16)
    path = dicom(tmp_path / "a.dcm", pixels, VOILUTSequence=[lut], WindowCenter=1, WindowWidth=2)
    assert read_image(path, **LIMITS).tolist() == [[0, 10, 200, 255, 255]]


def test_dicom_colour_and_palette(tmp_path):
    pixels = np.stack([gradient(), gradient()[::-1], gradient()], axis=2)
    assert np.array_equal(read_image(dicom(tmp_path / "a.dcm", pixels), **LIMITS), pixels)
    palette = {"PhotometricInterpretation": "PALETTE COLOR"}
    for number, colour in enumerate(("Red", "Green", "Blue")):
        palette[f"{colour}PaletteColorLookupTableDescriptor"] = [2, 0, 16]
        values = np.array([0, 65535 if number == 0 else 0], np.uint16)
        palette[f"{colour}PaletteColorLookupTableData"] = values.tobytes()
    path = dicom(tmp_path / "b.dcm", np.array([[0, 1]], np.uint8), **palette)
    assert read_image(path, **LIMITS).tolist() == [[[0, 0, 0], [255, 0, 0]]]


def test_dicom_keeps_nothing_of_the_patient_but_a_keyed_hash(tmp_path):
    path = dicom(tmp_path / "a.dcm", gradient())
    info = inspect_image(path, **LIMITS, group_key=b"key")
    assert (info.format, info.shown_as_is, len(info.group)) == ("DICOM", False, 64)
    assert (
        info.group == inspect_image(dicom(tmp_path / "b.dcm", gradient()), **LIMITS, group_key=b"key").group
    )
    assert info.group != inspect_image(path, **LIMITS, group_key=b"other").group
    assert info.group != hashlib.sha256(b"PAT-77").hexdigest()
    assert inspect_image(path, **LIMITS).group is None
    nameless = dicom(tmp_path / "c.dcm", gradient(), PatientID=" ")
    assert inspect_image(nameless, **LIMITS, group_key=b"key").group is None


def test_dicom_header_says_too_large_before_a_pixel_is_decoded(tmp_path):
    path = dicom(tmp_path / "a.dcm", gradient(), Rows=60_000, Columns=60_000)
    with pytest.raises(ImageTooLargeError, match=r"a\.dcm is 60000 x 60000"):
        inspect_image(path, **LIMITS)


def test_dicom_frames_and_dicom_without_image_are_refused_by_name(tmp_path):
    frames = dicom(tmp_path / "cine.dcm", np.zeros((8, 8), np.uint8), NumberOfFrames=12)
    with pytest.raises(UnreadableImageError, match=r"cine\.dcm holds 12 pages or frames"):
        inspect_image(frames, **LIMITS)
    report = pydicom.dcmread(dicom(tmp_path / "report.dcm", gradient()))
    del report.PixelData
    report.save_as(tmp_path / "report.dcm")
    with pytest.raises(UnreadableImageError, match=r"report\.dcm is DICOM without an image"):
        inspect_image(tmp_path / "report.dcm", **LIMITS)


def test_deflated_dicom_is_refused_before_it_is_inflated(tmp_path):
    data = dicom(tmp_path / "a.dcm", gradient()).read_bytes()
    path = tmp_path / "deflated.dcm"
    path.write_bytes(data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99"))
    with pytest.raises(UnreadableImageError, match="deflated"):
        inspect_image(path, **LIMITS)


def test_messages_and_warnings_hold_nothing_of_the_header(tmp_path, caplog):
    path = dicom(tmp_path / "a.dcm", gradient(), PatientID="SECRET-" + "9" * 100)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UnreadableImageError) as caught:
        inspect_image(path, **LIMITS)
    assert "SECRET" not in str(caught.value) + caplog.text


def test_missing_pydicom_names_the_extra(tmp_path, monkeypatch):
    path = dicom(tmp_path / "a.dcm", gradient())
    real_import = builtins.__import__

    def without_pydicom(name, *rest):
        if name.startswith("pydicom"):
            raise ImportError(name)
        return real_import(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_pydicom)
    with pytest.raises(UnreadableImageError, match=r"pip install 'imil-backend\[dicom\]'"):
        inspect_image(path, **LIMITS)


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to("/dev/null")
    with pytest.raises(UnreadableImageError, match="it is not a regular file"):
        load_bytes(tmp_path / "a.png", 100)
    with pytest.raises(OSError, match="it is not a regular file"):
        mask_from_png(tmp_path / "a.png", 8, 6)
