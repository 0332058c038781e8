"""Images from files: checked against limits before they are decoded, upright, 8 bits a channel.

JPEG, PNG, TIFF, BMP and WebP through Pillow, DICOM through `dicom.py`. The natural size is that of the
upright image, which is also the frame of every mask.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from imil_backend.errors import ImageError, ImageTooLargeError, UnreadableImageError
from imil_backend.images.dicom import is_dicom, read_dicom
from imil_backend.images.likeness import perceptual_hash, pixels_sha256
from imil_backend.images.scaling import between_extremes

# Asked for by name, so that no other plugin of Pillow's (PostScript, for one) ever sees the bytes and the
# limit is ours alone: Image.open() has a limit of its own, warns above it and cannot be told another one
# without changing it for the whole process.
_PILLOW_READERS: dict[str, tuple[type[ImageFile], tuple[bytes, ...]]] = {
    "JPEG": (JpegImageFile, (b"\xff\xd8\xff",)),
    "PNG": (PngImageFile, (b"\x89PNG\r\n\x1a\n",)),
    "TIFF": (TiffImageFile, (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    "BMP": (BmpImageFile, (b"BM",)),
    "WEBP": (WebPImageFile, (b"RIFF",)),
}
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_DEEP_MODES = frozenset({"I;16", "I;16L", "I;16B", "I", "F"})  # more than 8 bits of grey


@dataclass(frozen=True)
class ImageInfo:
    """What an import keeps of an image file."""

    sha256: str  # of the file's bytes
    width: int  # natural, upright
    height: int
    channels: int  # 1 if it is grey, however it is stored; else 3
    format: str  # JPEG, PNG, TIFF, BMP, WEBP or DICOM
    shown_as_is: bool  # a browser shows the file, with this very frame
    group: str | None = None  # DICOM: keyed hash of the PatientID
    pixels_sha256: str = field(default="", compare=False)  # of size and pixels, however they are stored
    perceptual_hash: str | None = field(default=None, compare=False)  # see `likeness`


@dataclass(frozen=True)
class _Decoded:
    pixels: NDArray[np.uint8]  # (height, width) or (height, width, 3), upright
    format: str
    shown_as_is: bool
    patient_id: str | None = None


def inspect_image(
    path: Path, *, max_bytes: int, max_pixels: int, group_key: bytes | None = None
) -> ImageInfo:
    """Decode an image in full, so that damage is found now, and say what it is.

    Args:
        path: The file.
        max_bytes: Largest file, checked before it is read.
        max_pixels: Largest width times height, checked before it is decoded.
        group_key: Key of the hash that stands for a DICOM file's PatientID; without it there is no group.

    Raises:
        UnreadableImageError: truncated, empty, several pages, not an image, or not a supported one.
        ImageTooLargeError: more bytes or pixels than allowed.
    """
    data = load_bytes(path, max_bytes)
    decoded = _decode(data, path.name, max_pixels)
    height, width = decoded.pixels.shape[:2]
    return ImageInfo(
        sha256=hashlib.sha256(data).hexdigest(),
        width=width,
        height=height,
        channels=1 if decoded.pixels.ndim == 2 else 3,
        format=decoded.format,
        shown_as_is=decoded.shown_as_is,
        group=_keyed_hash(decoded.patient_id, group_key),
        pixels_sha256=pixels_sha256(decoded.pixels),
        perceptual_hash=perceptual_hash(decoded.pixels),
    )


def read_image(
    source: Path | bytes,
    *,
    max_bytes: int,
    max_pixels: int,
    name: str | None = None,
    draft_size: int | None = None,
) -> NDArray[np.uint8]:
    """The pixels of an image, upright: uint8 (height, width) if it is grey, else (height, width, 3) RGB.

    Colour whose three channels are equal is grey. More than 8 bits of grey are scaled between the image's
    own extremes (DICOM: by its window). Transparency is laid over black, like the air around a film.

    Args:
        source: A file, or its bytes.
        max_bytes: Largest file, checked before it is read.
        max_pixels: Largest width times height, checked before it is decoded.
        name: What messages call the image; the file's name if not given.
        draft_size: A JPEG may come at 1/2, 1/4 or 1/8 of its natural size, while both sides stay at least
            this long. Faster, and unfit for anything that a mask is laid over.

    Raises:
        UnreadableImageError: truncated, empty, several pages, not an image, or not a supported one.
        ImageTooLargeError: more bytes or pixels than allowed.
    """
    if isinstance(source, Path):
        name = name or source.name
        source = load_bytes(source, max_bytes)
    name = name or "The image"
    _check_bytes(len(source), max_bytes, name)
    return _decode(source, name, max_pixels, draft_size).pixels


def png_for_display(source: Path | bytes, *, max_bytes: int, max_pixels: int) -> bytes:
    """An image as a PNG for a browser that cannot show the file; its frame is the mask's frame.

    Raises:
        UnreadableImageError: as of `read_image`.
        ImageTooLargeError: as of `read_image`.
    """
    pixels = read_image(source, max_bytes=max_bytes, max_pixels=max_pixels)
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG")
    return png.getvalue()


def image_format(data: bytes) -> str | None:
    """JPEG, PNG, TIFF, BMP, WEBP or DICOM by the first bytes of a file, or None for anything else."""
    return "DICOM" if is_dicom(data) else _format_of(data)


def load_bytes(path: Path, max_bytes: int) -> bytes:
    """The bytes of a file, if they are not too many.

    Raises:
        UnreadableImageError: it cannot be read.
        ImageTooLargeError: more bytes than allowed.
    """
    try:
        _check_bytes(path.stat().st_size, max_bytes, path.name)
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImageError(f"{path.name} cannot be read: {error.strerror}.") from error


def _check_bytes(count: int, max_bytes: int, name: str) -> None:
    if count > max_bytes:
        raise ImageTooLargeError(f"{name} has {count:,} bytes; the limit is {max_bytes:,}.")


def _check_pixels(width: int, height: int, max_pixels: int, name: str) -> None:
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"{name} is {width} x {height}, {width * height:,} pixels; the limit is {max_pixels:,}."
        )


def _decode(data: bytes, name: str, max_pixels: int, draft_size: int | None = None) -> _Decoded:
    """Decode with whatever knows the format; every failure becomes an ImageError that names the file."""
    if not data:
        raise UnreadableImageError(f"{name} is empty (zero bytes).")
    try:
        if is_dicom(data):
            return _decode_dicom(data, name, max_pixels)
        return _decode_pillow(data, name, max_pixels, draft_size)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageTooLargeError(f"{name} declares more pixels than can be decoded.") from error
    except Exception as error:  # a decoder may raise anything when the bytes are damaged
        raise UnreadableImageError(f"{name} is truncated or damaged ({type(error).__name__}).") from error


def _decode_dicom(data: bytes, name: str, max_pixels: int) -> _Decoded:
    image = read_dicom(
        data, name, check_size=lambda width, height: _check_pixels(width, height, max_pixels, name)
    )
    return _Decoded(_grey_if_equal(image.pixels), "DICOM", shown_as_is=False, patient_id=image.patient_id)


def _decode_pillow(data: bytes, name: str, max_pixels: int, draft_size: int | None) -> _Decoded:
    file_format = _format_of(data)
    if file_format is None:
        raise UnreadableImageError(f"{name} is not an image, or none of JPEG, PNG, TIFF, BMP, WebP, DICOM.")
    reader, _ = _PILLOW_READERS[file_format]
    with reader(io.BytesIO(data), name) as image:
        _check_pixels(*image.size, max_pixels, name)
        _check_pages(image, name)
        draft = image.draft(None, (draft_size, draft_size)) if draft_size is not None else None
        image.load()
        orientation = _orientation(image)
        deep = image.mode in _DEEP_MODES
        whole = image if draft is None else _without_overhang(image, draft[1])
        upright = whole.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else whole
        pixels = _to_uint8(upright)
    # Browsers agree on a JPEG's orientation, and on little else.
    framed_alike = file_format == "JPEG" or orientation not in _UPRIGHT
    shown_as_is = file_format != "TIFF" and not deep and framed_alike
    return _Decoded(pixels, file_format, shown_as_is)


def _without_overhang(image: Image.Image, extent: tuple[float, float, float, float]) -> Image.Image:
    """A reduced JPEG on a grid that ends where the picture does: its sides were rounded up to whole pixels.

    Left as it is, everything in it would lie up to a pixel aside of where it lies in the full one.
    """
    size = (int(extent[2]), int(extent[3]))
    return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC, box=extent)


def _format_of(data: bytes) -> str | None:
    for file_format, (_, prefixes) in _PILLOW_READERS.items():
        if data.startswith(prefixes):
            return file_format
    return None


def _check_pages(image: ImageFile, name: str) -> None:
    pages = getattr(image, "n_frames", 1)
    if pages > 1:
        raise UnreadableImageError(f"{name} holds {pages} pages or frames; save each as a file of its own.")


def _orientation(image: ImageFile) -> int:
    """The EXIF orientation, 1 to 8; 1 where EXIF is damaged.

    XMP may name one too. Browsers do not look there, so neither do we. (A TIFF is turned by Pillow itself.)
    """
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif") or b"")
        return int(exif.get(ExifTags.Base.Orientation, 1))
    except (SyntaxError, ValueError, TypeError, OSError, struct.error):
        return 1


def _to_uint8(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode in _DEEP_MODES:
        return between_extremes(np.asarray(image))
    if image.mode == "1":
        image = image.convert("L")
    elif image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "black")
        opaque.alpha_composite(image.convert("RGBA"))
        image = opaque.convert("RGB")
    elif image.mode not in {"L", "RGB"}:
        image = image.convert("RGB")
    return _grey_if_equal(np.asarray(image))


def _grey_if_equal(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """(height, width) where the channels are equal; a coarse grid tells colour from grey cheaply."""
    if pixels.ndim == 3 and _equal_channels(pixels[::16, ::16]) and _equal_channels(pixels):
        return np.ascontiguousarray(pixels[..., 0])
    return pixels


def _equal_channels(pixels: NDArray[Any]) -> bool:
    red, green, blue = np.moveaxis(pixels, 2, 0)
    return np.array_equal(red, green) and np.array_equal(green, blue)


def _keyed_hash(patient_id: str | None, key: bytes | None) -> str | None:
    """HMAC-SHA256: without the key, identifiers cannot be tried one after the other."""
    if not patient_id or key is None:
        return None
    return hmac.new(key, patient_id.encode(), hashlib.sha256).hexdigest()
