"""JPEG, PNG, TIFF, BMP and WebP through Pillow: upright, 8 bits a channel, from the right stored values."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TILELENGTH, TILEWIDTH
from PIL.WebPImagePlugin import WebPImageFile

from imil_backend.errors import BlankImageError, UnreadableImageError
from imil_backend.images.formats.deep import stored_bytes
from imil_backend.images.formats.tiff import ASSOCIATED, TiffFile, stored_samples
from imil_backend.images.intensity.scaling import Window, between_extremes, windowed
from imil_backend.images.limits.headers import check_tiff_tags, webp_size

# Asked for by name, so that no other plugin of Pillow's (PostScript, for one) ever sees the bytes and the
# limit is ours alone: Image.open() has a limit of its own, warns above it and cannot be told another one
# without changing it for the whole process.
_READERS: dict[str, tuple[type[ImageFile], tuple[bytes, ...]]] = {
    "JPEG": (JpegImageFile, (b"\xff\xd8\xff",)),
    "PNG": (PngImageFile, (b"\x89PNG\r\n\x1a\n",)),
    "TIFF": (TiffFile, (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
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
_DEEP_GREYS = frozenset({"I;16", "I;16L", "I;16B", "I", "F"})  # Pillow's modes of more than 8 bits
_DEEP_COLOURS = {"LA;16B": 2, "RGB;16B": 3, "RGBA;16B": 4}  # samples of a PNG, by the mode that Pillow drops
# Bytes that decoding takes at its peak for a pixel, by Pillow's mode; for a sample of more than 8 bits.
_PIXEL_BYTES = {"1": 4, "L": 4, "LA": 14, "P": 14, "RGB": 14, "RGBA": 14}
_MOST_EXIF_BYTES = 2**16  # of a JPEG's segment
_OTHER_PIXEL_BYTES = 24
_WEBP_PIXEL_BYTES = 20
_DEEP_PIXEL_BYTES, _DEEP_TIFF_PIXEL_BYTES = 16, 20
_BAND = 256  # rows
# What its decoders say of files that are whole.
_NOT_READ = ("Unsupported", "cannot handle", "unknown")


@dataclass(frozen=True)
class PillowImage:
    """One image as it is looked at."""

    pixels: NDArray[np.uint8]  # (height, width) or (height, width, 3), upright
    stored: NDArray[Any] | None  # the values it was made of; None where they are the pixels
    deep: bool  # they have more than 8 bits
    shown_as_is: bool  # a browser shows the file alike, with this very frame


@dataclass(frozen=True)
class _Deep:
    """Values of more than 8 bits, or with a sign."""

    values: NDArray[Any]  # (height, width) or (height, width, 3)
    opacity: NDArray[np.float32] | None = None  # (height, width), 0 to 1
    multiplied: bool = False  # the values were, by the opacity


def pillow_format(data: bytes) -> str | None:
    """JPEG, PNG, TIFF, BMP or WEBP by the first bytes of a file, or None for anything else."""
    for file_format, (_, prefixes) in _READERS.items():
        if data.startswith(prefixes):
            return file_format
    return None


def read_pillow(
    data: bytes,
    file_format: str,
    name: str,
    *,
    check_size: Callable[[int, int, int], None],
    draft_size: int | None = None,
    window: Window | None = None,
) -> PillowImage:
    """Decode a file of one of the formats that `pillow_format` tells.

    Args:
        data: the file.
        file_format: of `pillow_format`.
        name: what messages call it.
        check_size: called with width, height and the bytes that decoding takes for a pixel, before any is
            decoded; raises if they are too large.
        draft_size: see `reading.read_image`.
        window: for more than 8 bits, instead of their extremes.

    Raises:
        UnreadableImageError: several pages, or a kind of the format that is not read.
        BlankImageError: every pixel is transparent.
    """
    if file_format == "WEBP":
        check_size(*webp_size(data, name), _WEBP_PIXEL_BYTES)
    elif file_format == "TIFF":
        check_tiff_tags(data, name)
    with _open(data, file_format, name) as image:
        if file_format != "WEBP":
            check_size(*_decoded_size(image), _pixel_bytes(image))
        _check_pages(image, name)
        draft = image.draft(None, (draft_size, draft_size)) if draft_size is not None else None
        deep = _load_deep(data, image)
        orientation = _orientation(image)
        white_is_zero = isinstance(image, TiffFile) and image.white_is_zero
        stored: NDArray[Any] | None
        if deep:
            stored = deep.values
            pixels = _scaled(deep, window, white_is_zero, name)
        else:
            whole = image if draft is None else _without_overhang(image, draft[1])
            stored = None if image.mode in {"L", "RGB"} else np.asarray(image)
            pixels = _to_uint8(whole, file_format, white_is_zero, name)
    turned = orientation in _UPRIGHT
    if turned:
        pixels = np.asarray(Image.fromarray(pixels).transpose(_UPRIGHT[orientation]))
    # Browsers agree on a JPEG's orientation, and on little else.
    shown_as_is = file_format != "TIFF" and deep is None and (file_format == "JPEG" or not turned)
    return PillowImage(pixels, stored, deep is not None, shown_as_is)


def _open(data: bytes, file_format: str, name: str) -> ImageFile:
    reader, _ = _READERS[file_format]
    try:
        return reader(io.BytesIO(data), name)
    except (OSError, SyntaxError) as error:
        if str(error).startswith(_NOT_READ):
            raise UnreadableImageError(
                f"{name} is a {file_format} of an unsupported kind ({error}); save it as PNG."
            ) from error
        raise


def _decoded_size(image: ImageFile) -> tuple[int, int]:
    """Width and height of what is decoded at once; the tiles of a TIFF may be larger than it is."""
    if not isinstance(image, TiffFile):
        return image.size
    sides = (image.tag_v2.get(TILEWIDTH, 0), image.tag_v2.get(TILELENGTH, 0))
    return max(image.width, sides[0]), max(image.height, sides[1])


def _pixel_bytes(image: ImageFile) -> int:
    """What decoding takes at its peak for a pixel, as measured."""
    if isinstance(image, TiffFile) and image.layout:
        return _DEEP_TIFF_PIXEL_BYTES * image.layout.samples
    if isinstance(image, PngImageFile) and (samples := _DEEP_COLOURS.get(str(image.tile[0].args))):
        return _DEEP_PIXEL_BYTES * samples
    if image.mode in _DEEP_GREYS:
        return _DEEP_PIXEL_BYTES
    return _PIXEL_BYTES.get(image.mode, _OTHER_PIXEL_BYTES)


def _check_pages(image: ImageFile, name: str) -> None:
    pages = getattr(image, "n_frames", 1)
    if pages > 1:
        raise UnreadableImageError(f"{name} holds {pages} pages or frames; save each as a separate file.")


def _orientation(image: ImageFile) -> int:
    """The EXIF orientation, 1 to 8; 1 where EXIF is damaged, or larger than a JPEG can hold it.

    XMP may name one too. Browsers do not look there, so neither do we. (A TIFF is turned by Pillow itself.)
    """
    exif, raw = Image.Exif(), image.info.get("exif") or b""
    if len(raw) > _MOST_EXIF_BYTES:  # Pillow makes objects of all of it: gigabytes
        return 1
    try:
        exif.load(raw)
        return int(exif.get(ExifTags.Base.Orientation, 1))
    except (SyntaxError, ValueError, TypeError, OSError, struct.error):
        return 1


def _without_overhang(image: Image.Image, extent: tuple[float, float, float, float]) -> Image.Image:
    """A reduced JPEG on a grid that ends where the picture does: its sides were rounded up to whole pixels.

    Left as it is, everything in it would lie up to a pixel aside of where it lies in the full one.
    """
    size = (int(extent[2]), int(extent[3]))
    return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC, box=extent)


def _load_deep(data: bytes, image: ImageFile) -> _Deep | None:
    """Load an image; its values where they have more than 8 bits or a sign."""
    if isinstance(image, TiffFile) and image.layout:
        layout = image.layout
        samples = stored_samples(data, image, layout)
        alpha = samples[..., layout.channels] if layout.alpha else None
        return _Deep(_colours(samples, layout.channels), _opacity(alpha), layout.alpha == ASSOCIATED)
    if isinstance(image, PngImageFile) and (count := _DEEP_COLOURS.get(str(image.tile[0].args))):
        pixels = stored_bytes(image, lambda: PngImageFile(io.BytesIO(data)), 2 * count)
        samples = pixels.view(">u2")
        if count != 3:
            return _Deep(_colours(samples, count - 1), _opacity(samples[..., -1]))
        return _without_transparent_value(samples, image)
    image.load()
    if image.mode in _DEEP_GREYS:
        return _without_transparent_value(np.asarray(image), image)
    return None


def _colours(samples: NDArray[Any], channels: int) -> NDArray[Any]:
    """(height, width) or (height, width, 3) of samples of grey, RGB or CMYK (as Pillow turns it into RGB)."""
    if channels == 1:
        return samples[..., 0]
    if channels == 3:
        return samples[..., :3]
    most = _most(samples.dtype)
    ink = samples[..., :4].astype(np.float32) / most
    return (1 - ink[..., :3]) * (1 - ink[..., 3:])


def _opacity(alpha: NDArray[Any] | None) -> NDArray[np.float32] | None:
    return None if alpha is None else np.clip(alpha / np.float32(_most(alpha.dtype)), 0, 1)


def _most(dtype: np.dtype[Any]) -> float:
    """The value that means all of something."""
    return 1 if dtype.kind == "f" else np.iinfo(dtype).max


def _without_transparent_value(values: NDArray[Any], image: ImageFile) -> _Deep:
    """A PNG may name one grey or colour that is transparent."""
    transparent = image.info.get("transparency")
    if transparent is None:
        return _Deep(values)
    differs = values != np.asarray(transparent)
    return _Deep(values, (differs.any(axis=2) if values.ndim == 3 else differs).astype(np.float32))


def _scaled(deep: _Deep, window: Window | None, white_is_zero: bool, name: str) -> NDArray[np.uint8]:
    """8 bits: by the window, else between the extremes of what is not transparent. Laid over black."""
    values, opacity = deep.values, deep.opacity
    if opacity is not None and values.ndim == 3:
        opacity = np.broadcast_to(opacity[..., None], values.shape)
    visible = None if opacity is None else opacity > 0
    if visible is not None and not visible.any():
        raise _transparent(name)
    if window:
        pixels = windowed(values, window, "LINEAR_EXACT" if values.dtype.kind == "f" else "LINEAR")
    else:
        pixels = between_extremes(values, visible)
    if white_is_zero:
        pixels = 255 - pixels
    if opacity is None:
        return pixels
    return np.rint(pixels * (opacity > 0 if deep.multiplied else opacity)).astype(np.uint8)


def _to_uint8(image: Image.Image, file_format: str, white_is_zero: bool, name: str) -> NDArray[np.uint8]:
    """(height, width) or (height, width, 3), of an image of up to 8 bits. Laid over black."""
    if image.mode in {"La", "RGBa"}:
        image = image.convert(f"{image.mode[:-1]}A")
    opaque = not image.has_transparency_data or (file_format == "BMP" and _is_transparent(image))
    if opaque:  # a BMP's fourth byte is mostly left at 0, and means nothing then
        if image.mode not in {"L", "RGB"}:
            image = image.convert("L" if image.mode == "1" else "RGB")
        return 255 - np.asarray(image) if white_is_zero else np.asarray(image)
    return _over_black(image, white_is_zero, name)


def _over_black(image: Image.Image, white_is_zero: bool, name: str) -> NDArray[np.uint8]:
    """Band by band: each step of a whole image would take its memory again."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    visible = False
    for top in range(0, image.height, _BAND):
        bottom = min(top + _BAND, image.height)
        band = image.crop((0, top, image.width, bottom)).convert("RGBA")
        visible = visible or not _is_transparent(band)
        if white_is_zero:
            *colours, alpha = band.split()
            band = Image.merge("RGBA", (*map(ImageOps.invert, colours), alpha))
        under = Image.new("RGBA", band.size, "black")
        under.alpha_composite(band)
        pixels[top:bottom] = np.asarray(under.convert("RGB"))
    if not visible:
        raise _transparent(name)
    return pixels


def _is_transparent(image: Image.Image) -> bool:
    return image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0)


def _transparent(name: str) -> BlankImageError:
    return BlankImageError(f"{name} is fully transparent; save it without its alpha channel.")
