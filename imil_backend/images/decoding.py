"""Decoding by whatever knows a format, with every failure as an ImageError that names the file."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imil_backend.errors import ImageError, ImageTooLargeError, UnreadableImageError
from imil_backend.images.dicom.dicom_image import is_dicom, read_dicom
from imil_backend.images.formats.pillow import pillow_format, read_pillow
from imil_backend.images.guard import check_picture, count_levels
from imil_backend.images.intensity.scaling import Window
from imil_backend.images.intensity.windows import in_words
from imil_backend.images.limits.budget import DECODERS


@dataclass(frozen=True)
class Decoded:
    """An image as it is looked at, and what it was made of."""

    pixels: NDArray[np.uint8]  # (height, width) or (height, width, 3), upright
    format: str
    shown_as_is: bool
    deep: bool
    stored_levels: Callable[[], int]  # see guard.check_picture
    hidden_by: str  # what hides the picture, if there is none
    patient_id: str | None = None
    window: Window | None = None  # by which they were made

    def check(self, name: str) -> None:
        """Raise BlankImageError if there is no picture to be seen."""
        hidden_by = f"the window {in_words(self.window)} hides the picture" if self.window else self.hidden_by
        check_picture(self.pixels, self.stored_levels, name, hidden_by)


# Called with width, height and the bytes that decoding takes for a pixel, before any is decoded.
CheckSize = Callable[[int, int, int], None]


def _check_pixels(width: int, height: int, max_pixels: int, name: str) -> None:
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"{name} is {width} x {height}, {width * height:,} pixels; the limit is {max_pixels:,}."
        )


def decode(
    data: bytes, name: str, max_pixels: int, draft_size: int | None = None, window: Window | None = None
) -> Decoded:
    """Decode with whatever knows the format; every failure becomes an ImageError that names the file."""
    if not data:
        raise UnreadableImageError(f"{name} is empty (zero bytes).")

    memory = ExitStack()

    def check_size(width: int, height: int, pixel_bytes: int) -> None:
        _check_pixels(width, height, max_pixels, name)
        memory.enter_context(DECODERS.reserved(len(data) + width * height * pixel_bytes, name))

    try:
        with memory:
            if is_dicom(data):
                return _decode_dicom(data, name, check_size, window)
            return _decode_pillow(data, name, check_size, draft_size, window)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageTooLargeError(f"{name} declares more pixels than can be decoded.") from error
    except Exception as error:  # a decoder may raise anything when the bytes are damaged
        raise UnreadableImageError(f"{name} is truncated or damaged ({type(error).__name__}).") from error


def _decode_dicom(data: bytes, name: str, check_size: CheckSize, window: Window | None) -> Decoded:
    image = read_dicom(data, name, check_size=check_size, window=window)
    return Decoded(
        _grey_if_equal(image.pixels),
        "DICOM",
        shown_as_is=False,
        deep=image.deep,
        stored_levels=lambda: 0 if image.as_stored else image.stored_levels,
        hidden_by="its lookup tables, or a few values far above or below the others, hide the picture",
        patient_id=image.patient_id,
        window=image.window,
    )


def _decode_pillow(
    data: bytes,
    name: str,
    check_size: CheckSize,
    draft_size: int | None,
    window: Window | None,
) -> Decoded:
    file_format = pillow_format(data)
    if file_format is None:
        raise UnreadableImageError(f"{name} is not a JPEG, PNG, TIFF, BMP, WebP or DICOM image.")
    image = read_pillow(data, file_format, name, check_size=check_size, draft_size=draft_size, window=window)
    return Decoded(
        _grey_if_equal(image.pixels),
        file_format,
        shown_as_is=image.shown_as_is,
        deep=image.deep,
        stored_levels=partial(count_levels, image.stored) if image.stored is not None else lambda: 0,
        hidden_by=(
            "a few values far above or below the others take up the whole range of greys"
            if image.deep
            else "its colour map or its transparency hides the picture"
        ),
        window=window if image.deep else None,
    )


def _grey_if_equal(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """(height, width) where the channels are equal; a coarse grid tells colour from grey cheaply."""
    if pixels.ndim == 3 and _equal_channels(pixels[::16, ::16]) and _equal_channels(pixels):
        return np.ascontiguousarray(pixels[..., 0])
    return pixels


def _equal_channels(pixels: NDArray[Any]) -> bool:
    red, green, blue = np.moveaxis(pixels, 2, 0)
    return np.array_equal(red, green) and np.array_equal(green, blue)
