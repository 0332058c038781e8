"""Our greys and colours beside those of dcmtk's dcmj2pnm, on every file that both can read."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
import pytest
from PIL import Image
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian
from support.dicoms import dicom_bytes, in_words, packed, palette, ramp, table_item, words
from support.label_studio import missing

from imil_backend.errors import UnreadableImageError
from imil_backend.images.dicom.dicom_image import read_dicom

SETTING = "IMIL_TEST_DCMJ2PNM"
PROGRAM = os.environ.get(SETTING, "dcmj2pnm")
CLOSE = 2  # greys, in the mean: dcmtk cuts fractions off
OURS = Path(__file__).parents[1] / "fixtures" / "inputs"
THEIRS = Path(pydicom.data.__file__).parent / "test_files"

REFUSED = {  # by us, though dcmtk shows something
    "JPEG-lossy.dcm": "cannot be decoded",  # the stream breaks the JPEG standard
    "badVR.dcm": "NumberOfFrames is not a number",
    "image_dfl.dcm": "is deflated DICOM",
    "rtdose_expb_1frame.dcm": "32 bits a pixel in big endian words",  # pydicom and dcmtk disagree
    "slope_zero.dcm": "RescaleSlope is 0",
    **dict.fromkeys(
        [
            *("SC_rgb_rle_16bit_2frame.dcm", "SC_rgb_rle_2frame.dcm", "SC_rgb_rle_32bit_2frame.dcm"),
            *("rtdose.dcm", "rtdose_expb.dcm", "rtdose_rle.dcm", "examples_ybr_color.dcm"),
        ],
        "pages or frames",
    ),
}


pytestmark = pytest.mark.external


@pytest.fixture(scope="module", autouse=True)
def program():
    if shutil.which(PROGRAM) is None:
        missing("dcmj2pnm, of Debian's package dcmtk,", SETTING)


def shown_by_us(path: Path) -> np.ndarray:
    return read_dicom(path.read_bytes(), path.name, check_size=lambda *_: None).pixels


def shown_by_dcmtk(path: Path, work: Path) -> np.ndarray | None:
    """The picture by the rules that ours follow, None if dcmtk cannot read the file."""
    picture = work / "dcmtk.pnm"
    picture.unlink(missing_ok=True)
    options = _transformation(pydicom.dcmread(path, force=True))
    command = [PROGRAM, "--quiet", "--no-overlays", *options, "--write-raw-pnm", str(path), str(picture)]
    if subprocess.run(command, capture_output=True, timeout=60, check=False).returncode:
        return None
    with Image.open(picture) as image:
        return np.asarray(image)


def _transformation(header: pydicom.Dataset) -> list[str]:
    """VOI LUT, else the first whole window, else the extremes."""
    if not str(header.get("PhotometricInterpretation", "")).startswith("MONOCHROME"):
        return []
    if any(item.get("LUTData") for item in header.get("VOILUTSequence") or ()):
        return ["--use-voi-lut", "1", "--ignore-vlut-depth"]
    pairs = zip(_values(header, "WindowCenter"), _values(header, "WindowWidth"), strict=False)
    whole = (number for number, pair in enumerate(pairs, 1) if None not in pair and "" not in pair)
    number = next(whole, None)
    return ["--min-max-window"] if number is None else ["--use-window", str(number)]


def _values(header: pydicom.Dataset, keyword: str) -> list[object]:
    value = header.get(keyword)
    return list(value) if isinstance(value, pydicom.multival.MultiValue) else [value]


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    assert ours.shape == theirs.shape
    return float(np.abs(ours.astype(int) - theirs).mean())


def test_every_file_that_both_can_read_looks_alike(tmp_path):
    differences, refused = {}, {}
    for path in sorted([*THEIRS.rglob("*"), *OURS.glob("dicom_*/*.dcm")]):
        theirs = shown_by_dcmtk(path, tmp_path) if path.is_file() and path.suffix != ".py" else None
        if theirs is None:
            continue
        try:
            ours = shown_by_us(path)
        except UnreadableImageError as error:
            refused[path.name] = str(error)
        else:
            differences[path.name] = difference(ours, theirs)
    assert len(differences) >= 85  # so many came with pydicom 3.0 and with ours
    assert not {name: mean for name, mean in differences.items() if mean > CLOSE}
    assert refused.keys() == REFUSED.keys()
    assert all(reason in refused[name] for name, reason in REFUSED.items())


RAMP, SHORT_RAMP = ramp(), ramp(256).astype(np.uint8)
SIGNED = (RAMP.astype(int) - 2048).astype(np.int16)
STEPS, BYTES = np.arange(4096), np.arange(256)
COLOUR = np.stack([SHORT_RAMP, SHORT_RAMP[::-1], SHORT_RAMP // 2], axis=2)
LUT_12 = {"BitsStored": 12, "VOILUTSequence": [table_item(words(STEPS), 4096, bits=12)]}
MADE = {
    "VOI LUT of 12 bits": dicom_bytes(RAMP, **LUT_12),
    "VOI LUT, MONOCHROME1": dicom_bytes(RAMP, **LUT_12, PhotometricInterpretation="MONOCHROME1"),
    "VOI LUT, big endian": dicom_bytes(
        RAMP,
        syntax=ExplicitVRBigEndian,
        BitsStored=12,
        VOILUTSequence=[table_item(words(STEPS * 16, order=">"), 4096)],
    ),
    "VOI LUT, packed": dicom_bytes(
        RAMP, BitsStored=12, VOILUTSequence=[table_item(packed(STEPS // 16), 4096, bits=8)]
    ),
    "VOI LUT, packed, big endian": dicom_bytes(
        RAMP,
        syntax=ExplicitVRBigEndian,
        BitsStored=12,
        VOILUTSequence=[table_item(packed(STEPS // 16, order=">"), 4096, bits=8)],
    ),
    "VOI LUT from -1000, after rescaling": dicom_bytes(
        RAMP,
        BitsStored=12,
        RescaleSlope=1,
        RescaleIntercept=-1024,
        VOILUTSequence=[table_item(words(np.linspace(0, 65535, 2000)), 2000, first=-1000)],
    ),
    "VOI LUT from -1000, written as 64536": dicom_bytes(
        RAMP,
        BitsStored=12,
        RescaleSlope=1,
        RescaleIntercept=-1024,
        VOILUTSequence=[table_item(words(np.linspace(0, 65535, 2000)), 2000, first=64536)],
    ),
    "modality LUT": dicom_bytes(
        RAMP, BitsStored=12, ModalityLUTSequence=[table_item(words(STEPS**2 // 4096), 4096, bits=12)]
    ),
    "modality LUT of 65536 entries": dicom_bytes(
        ramp(65536), ModalityLUTSequence=[table_item(words(np.arange(65536)[::-1]), 65536)]
    ),
    "modality LUT, packed, and a window": dicom_bytes(
        RAMP,
        BitsStored=12,
        ModalityLUTSequence=[table_item(packed(STEPS // 16), 4096, bits=8)],
        WindowCenter=100,
        WindowWidth=50,
    ),
    "modality LUT, packed, big endian": dicom_bytes(
        RAMP,
        syntax=ExplicitVRBigEndian,
        BitsStored=12,
        ModalityLUTSequence=[table_item(packed(STEPS // 16, order=">"), 4096, bits=8)],
    ),
    "modality LUT from -500": dicom_bytes(
        SIGNED,
        BitsStored=12,
        PixelRepresentation=1,
        ModalityLUTSequence=[table_item(words(np.arange(1000) * 4), 1000, first=-500)],
    ),
    "modality LUT from -500, written as 65036": dicom_bytes(
        SIGNED,
        BitsStored=12,
        PixelRepresentation=1,
        ModalityLUTSequence=[table_item(words(np.arange(1000) * 4), 1000, first=65036)],
    ),
    "a single RescaleIntercept": dicom_bytes(
        RAMP, BitsStored=12, RescaleIntercept=-1024, WindowCenter=40, WindowWidth=400
    ),
    "negative slope": dicom_bytes(RAMP, BitsStored=12, RescaleSlope=-1, RescaleIntercept=4095),
    "HighBit 15 of 12 bits": dicom_bytes(RAMP << 4, BitsStored=12, HighBit=15),
    "HighBit 13 of 12 bits, overlays around": dicom_bytes(RAMP << 2 | 0x8003, BitsStored=12, HighBit=13),
    "overlays in unused bits": dicom_bytes(RAMP | 0x3000, BitsStored=12),
    "signed, not extended": dicom_bytes(
        (SIGNED.view(np.uint16) & 0xFFF),
        BitsStored=12,
        PixelRepresentation=1,
        WindowCenter=0,
        WindowWidth=900,
    ),
    "signed, HighBit 15 of 12 bits": dicom_bytes(
        SIGNED << 4, BitsStored=12, HighBit=15, PixelRepresentation=1, WindowCenter=-100, WindowWidth=900
    ),
    "no HighBit": dicom_bytes(RAMP, BitsStored=12, HighBit=None),
    "PresentationLUTShape INVERSE": dicom_bytes(RAMP, BitsStored=12, PresentationLUTShape="INVERSE"),
    "MONOCHROME1 and INVERSE": dicom_bytes(
        RAMP, BitsStored=12, PresentationLUTShape="INVERSE", PhotometricInterpretation="MONOCHROME1"
    ),
    "SIGMOID": dicom_bytes(
        RAMP, BitsStored=12, WindowCenter=2000, WindowWidth=1000, VOILUTFunction="SIGMOID"
    ),
    "a width of 0": dicom_bytes(RAMP, BitsStored=12, WindowCenter=2000, WindowWidth=0),
    "a width below 1": dicom_bytes(RAMP, BitsStored=12, WindowCenter=2000, WindowWidth=0.5),
    "32 bits": dicom_bytes(RAMP.astype(np.uint32) * 70_000),
    "32 bits, signed": dicom_bytes((RAMP.astype(np.int32) - 2000) * 70_000, PixelRepresentation=1),
    "8 bits, signed": dicom_bytes(ramp(200).astype(np.int8), PixelRepresentation=1),
    "6 bits of 8": dicom_bytes(ramp(64).astype(np.uint8) | 0xC0, BitsStored=6),
    "8 bits in big endian words": dicom_bytes(ramp(200).astype(np.uint8), syntax=ExplicitVRBigEndian),
    "1 bit": dicom_bytes(
        np.packbits(RAMP & 1, bitorder="little").tobytes(), shape=RAMP.shape, BitsAllocated=1
    ),
    "1 bit in big endian words": dicom_bytes(
        in_words(np.packbits(RAMP & 1, bitorder="little").tobytes()),
        shape=RAMP.shape,
        syntax=ExplicitVRBigEndian,
        BitsAllocated=1,
    ),
    "MONOCHROME1 with a palette": dicom_bytes(
        SHORT_RAMP,
        **palette([words(BYTES * 257)] * 3, 256) | {"PhotometricInterpretation": "MONOCHROME1"},
    ),
    "palette, packed": dicom_bytes(
        SHORT_RAMP, **palette([packed(BYTES), packed(BYTES[::-1]), packed(BYTES // 2)], 256, bits=8)
    ),
    "palette, packed, big endian": dicom_bytes(
        SHORT_RAMP,
        syntax=ExplicitVRBigEndian,
        **palette(
            [packed(BYTES, order=">"), packed(BYTES[::-1], order=">"), packed(BYTES, order=">")], 256, bits=8
        ),
    ),
    "palette of 255 entries, packed": dicom_bytes(
        SHORT_RAMP, **palette([packed(BYTES[:255])] * 3, 255, bits=8)
    ),
    "palette of 65536 entries": dicom_bytes(ramp(65536), **palette([words(np.arange(65536))] * 3, 65536)),
    "palette from 100": dicom_bytes(SHORT_RAMP, **palette([words(np.arange(100) * 655)] * 3, 100, first=100)),
    "palette from -50": dicom_bytes(
        (SHORT_RAMP.astype(int) - 128).astype(np.int8),
        PixelRepresentation=1,
        **palette([words(np.arange(100) * 655)] * 3, 100, first=-50),
    ),
    "palette of 16 bits that says 8": dicom_bytes(
        SHORT_RAMP, **palette([words(BYTES * 257)] * 3, 256, bits=8)
    ),
    "palette of 12 bits": dicom_bytes(SHORT_RAMP, **palette([words(BYTES * 16)] * 3, 256, bits=12)),
    "planes of colour": dicom_bytes(
        np.moveaxis(COLOUR, 2, 0).tobytes(), shape=COLOUR.shape, BitsAllocated=8, PlanarConfiguration=1
    ),
    "YBR_FULL": dicom_bytes(COLOUR, PhotometricInterpretation="YBR_FULL"),
    "YBR_FULL in planes": dicom_bytes(
        np.moveaxis(COLOUR, 2, 0).tobytes(),
        shape=COLOUR.shape,
        BitsAllocated=8,
        PlanarConfiguration=1,
        PhotometricInterpretation="YBR_FULL",
    ),
    "colour of 12 bits, HighBit 15": dicom_bytes(COLOUR.astype(np.uint16) << 8, BitsStored=12, HighBit=15),
    "signed colour": dicom_bytes((COLOUR.astype(int) - 128).astype(np.int8), PixelRepresentation=1),
    "implicit": dicom_bytes(
        RAMP, syntax=ImplicitVRLittleEndian, BitsStored=12, WindowCenter=1000, WindowWidth=500
    ),
    "excess bytes": dicom_bytes(
        RAMP.tobytes() + bytes(100), shape=RAMP.shape, BitsAllocated=16, BitsStored=12
    ),
}


@pytest.mark.parametrize("kind", MADE)
def test_made_files_look_as_dcmtk_shows_them(kind, tmp_path):
    path = tmp_path / "made.dcm"
    path.write_bytes(MADE[kind])
    theirs = shown_by_dcmtk(path, tmp_path)
    assert theirs is not None
    ours = shown_by_us(path)
    assert ours.max() > ours.min()
    assert difference(ours, theirs) <= CLOSE
