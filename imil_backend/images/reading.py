"""Images from files: checked against limits before they are decoded, upright, 8 bits a channel.

JPEG, PNG, TIFF, BMP and WebP through `formats`, DICOM through `dicom`. The natural size is that of the
upright image, which is also the frame of every mask.
"""

from __future__ import annotations

import hashlib
import hmac
import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imil_backend.errors import BlankImageError, ImageTooLargeError, UnreadableImageError
from imil_backend.files import regular_size
from imil_backend.images.decoding import Decoded, decode
from imil_backend.images.dicom.dicom_image import is_dicom
from imil_backend.images.formats.pillow import pillow_format
from imil_backend.images.intensity.scaling import Window
from imil_backend.images.likeness import perceptual_hash, pixels_sha256


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
    deep: bool = False  # more than 8 bits, of which one window is shown
    window: Window | None = None  # DICOM: the file's own, by which it is read
    hidden: bool = False  # the window that was asked about leaves nothing to see


def inspect_image(
    path: Path,
    *,
    max_bytes: int,
    max_pixels: int,
    group_key: bytes | None = None,
    window: Window | None = None,
) -> ImageInfo:
    """Decode an image in full, so that damage is found now; look at the picture; and say what it is.

    Args:
        path: The file.
        max_bytes: Largest file, checked before it is read.
        max_pixels: Largest width times height, checked before it is decoded.
        group_key: Key of the hash that stands for a DICOM file's PatientID; without it there is no group.
        window: By which a clinician is to see the image, if it has more than 8 bits.

    Raises:
        UnreadableImageError: truncated, empty, several pages, not an image, or not a supported one.
        BlankImageError: there is no picture to be seen in it.
        ImageTooLargeError: more bytes or pixels than allowed.
    """
    data = load_bytes(path, max_bytes)
    decoded = decode(data, path.name, max_pixels)
    decoded.check(path.name)
    height, width = decoded.pixels.shape[:2]
    return ImageInfo(
        sha256=hashlib.sha256(data).hexdigest(),
        width=width,
        height=height,
        channels=1 if decoded.pixels.ndim == 2 else 3,
        format=decoded.format,
        shown_as_is=decoded.shown_as_is,
        group=keyed_hash(decoded.patient_id, group_key),
        pixels_sha256=pixels_sha256(decoded.pixels),
        perceptual_hash=perceptual_hash(decoded.pixels),
        deep=decoded.deep,
        window=decoded.window,
        hidden=window is not None and decoded.deep and _hides(window, data, path.name, max_pixels),
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

    Colour whose three channels are equal is grey. More than 8 bits are scaled between the extremes of the
    image (DICOM: by its window). Transparency is laid over black, like the air around a film.

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
    return _read(source, max_bytes, max_pixels, name, draft_size)[0].pixels


def read_sample(
    source: Path | bytes,
    *,
    max_bytes: int,
    max_pixels: int,
    name: str | None = None,
    draft_size: int | None = None,
) -> NDArray[np.uint8]:
    """As `read_image`, for what is trained on: it is looked at, as at its import.

    Raises:
        BlankImageError: there is no picture to be seen in it.
        UnreadableImageError: as of `read_image`.
        ImageTooLargeError: as of `read_image`.
    """
    decoded, name = _read(source, max_bytes, max_pixels, name, draft_size)
    decoded.check(name)
    return decoded.pixels


def png_for_display(
    source: Path | bytes,
    *,
    max_bytes: int,
    max_pixels: int,
    name: str | None = None,
    window: Window | None = None,
) -> bytes:
    """An image as a PNG for a browser that cannot show the file; its frame is the mask's frame.

    Args:
        source: A file, or its bytes.
        max_bytes: As of `read_image`.
        max_pixels: As of `read_image`.
        name: As of `read_image`.
        window: To be shown, if the image has more than 8 bits.

    Raises:
        BlankImageError: the window leaves nothing to see.
        UnreadableImageError: as of `read_image`.
        ImageTooLargeError: as of `read_image`.
    """
    decoded, name = _read(source, max_bytes, max_pixels, name, None, window)
    if window and decoded.deep:
        decoded.check(name)
    png = io.BytesIO()
    Image.fromarray(decoded.pixels).save(png, "PNG")
    return png.getvalue()


def image_format(data: bytes) -> str | None:
    """JPEG, PNG, TIFF, BMP, WEBP or DICOM by the first bytes of a file, or None for anything else."""
    return "DICOM" if is_dicom(data) else pillow_format(data)


def load_bytes(path: Path, max_bytes: int) -> bytes:
    """The bytes of a file, if they are not too many.

    Raises:
        UnreadableImageError: it cannot be read, or is no regular file.
        ImageTooLargeError: more bytes than allowed.
    """
    try:
        _check_bytes(regular_size(path), max_bytes, path.name)
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImageError(f"{path.name} cannot be read: {error.strerror}.") from error


def _read(
    source: Path | bytes,
    max_bytes: int,
    max_pixels: int,
    name: str | None,
    draft_size: int | None,
    window: Window | None = None,
) -> tuple[Decoded, str]:
    """An image and what messages call it."""
    if isinstance(source, Path):
        name = name or source.name
        source = load_bytes(source, max_bytes)
    name = name or "The image"
    _check_bytes(len(source), max_bytes, name)
    return decode(source, name, max_pixels, draft_size, window), name


def _hides(window: Window, data: bytes, name: str, max_pixels: int) -> bool:
    try:
        decode(data, name, max_pixels, window=window).check(name)
    except BlankImageError:
        return True
    return False


def _check_bytes(count: int, max_bytes: int, name: str) -> None:
    if count > max_bytes:
        raise ImageTooLargeError(f"{name} has {count:,} bytes; the limit is {max_bytes:,}.")


def keyed_hash(patient_id: str | None, key: bytes | None) -> str | None:
    """What stands for a PatientID: HMAC-SHA256. Without the key, they cannot be tried one after the other."""
    if not patient_id or key is None:
        return None
    return hmac.new(key, patient_id.encode(), hashlib.sha256).hexdigest()
