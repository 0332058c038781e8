"""Pictures of a sample: as it is, with what was painted, as training sees it, and with class evidence."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from imil_backend.images.masks.blackout import black_out
from imil_backend.images.masks.masks import Mask, mask_coverage
from imil_backend.loop.base.backend import Backend
from imil_backend.store.tables import Sample

MIMETYPE = "image/jpeg"
SIDE = 384  # pixels, the longer side
_QUALITY = 88
PAINT = (229, 72, 77)
FOR, AGAINST = (255, 153, 0), (64, 156, 255)  # colours of what speaks for a class, and against it
_OPACITY = 0.65  # of the evidence at the end of the scale
_LINE = 2  # pixels, of an outline
_SCALE_HEIGHT = 34  # pixels below the image


@dataclass(frozen=True)
class Overlay:
    """Class evidence to be drawn over an image."""

    evidence: NDArray[np.float16]  # (cells, cells)
    most: float  # the end of the scale, which pictures that are compared share


def end_of_scale(maps: Sequence[NDArray[np.float16]]) -> float:
    """One scale for several maps: the largest value, for or against."""
    return max((float(np.abs(each).max()) for each in maps), default=0.0)


def panel_of(backend: Backend, sample: Sample) -> Image.Image:
    """A sample's image in colours, small enough for a page.

    Raises:
        ImageError: it cannot be read.
    """
    return _small(backend.read_image(Path(sample.path)))


def outlined(panel: Image.Image, mask: Mask) -> Image.Image:
    """The image with the outline of a mask."""
    inside = Image.fromarray((mask_coverage(mask, *panel.size) >= 0.5).astype(np.uint8) * 255)
    framed = ImageOps.expand(inside, _LINE)  # at the image's border too there is a line
    core = ImageOps.crop(framed.filter(ImageFilter.MinFilter(2 * _LINE + 1)), _LINE)
    edge = np.asarray(inside) ^ np.asarray(core)
    return Image.composite(Image.new("RGB", panel.size, PAINT), panel, Image.fromarray(edge))


def painted(panel: Image.Image, mask: Mask) -> Image.Image:
    """The image with a mask laid over it in half."""
    tint = Image.fromarray((127 * mask_coverage(mask, *panel.size)).astype(np.uint8))
    return Image.composite(Image.new("RGB", panel.size, PAINT), panel, tint)


def blacked_out(backend: Backend, sample: Sample, mask: Mask, fill: str) -> Image.Image:
    """The image without its masked pixels.

    Raises:
        ImageError: it cannot be read.
    """
    return _small(black_out(backend.read_image(Path(sample.path)), mask, fill))


def with_evidence(panel: Image.Image, overlay: Overlay) -> Image.Image:
    """The image with class evidence laid over it, smoothed between the cells, and the scale below."""
    grey = panel.convert("L").convert("RGB")
    scaled = overlay.evidence.astype(np.float32) / (overlay.most or 1.0)
    smooth = Image.fromarray(scaled).resize(panel.size, Image.Resampling.BICUBIC)
    values = np.asarray(smooth, np.float32).clip(-1, 1)
    whole = Image.new("RGB", (panel.width, panel.height + _SCALE_HEIGHT), "black")
    whole.paste(_tinted(grey, values))
    _draw_scale(whole, panel.height, overlay.most)
    return whole


def encoded(picture: Image.Image) -> bytes:
    """A picture as a JPEG."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


def _tinted(grey: Image.Image, values: NDArray[np.float32]) -> Image.Image:
    """Values of -1..1, (height, width), over an image."""
    opacity = (_OPACITY * np.abs(values))[..., None]
    colour = np.where(values[..., None] >= 0, np.array(FOR), np.array(AGAINST))
    mixed = np.asarray(grey, np.float32) * (1 - opacity) + colour * opacity
    return Image.fromarray(mixed.round().astype(np.uint8))


def _draw_scale(whole: Image.Image, top: int, most: float) -> None:
    bar = np.linspace(-1, 1, whole.width, dtype=np.float32)[None].repeat(10, axis=0)
    whole.paste(_tinted(Image.new("RGB", (whole.width, 10), (96, 96, 96)), bar), (0, top + 4))
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(13)
    for share, text, anchor in (
        (0, f"against {-most:.2f}", "la"),
        (0.5, "0", "ma"),
        (1, f"{most:.2f} for", "ra"),
    ):
        draw.text((share * (whole.width - 1), top + 17), text, "white", font, anchor)


def _small(pixels: NDArray[np.uint8]) -> Image.Image:
    image = Image.fromarray(pixels).convert("RGB")
    scale = min(1.0, SIDE / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    if max(size) < SIDE:  # a tiny one is shown in its own pixels, larger
        factor = max(1, SIDE // max(size))
        return image.resize((size[0] * factor, size[1] * factor), Image.Resampling.NEAREST)
    return image.resize(size, Image.Resampling.BOX)
