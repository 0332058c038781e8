"""Panels of a sample, side by side: as it is, painted, as training sees it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from imil_backend.images.masks.blackout import black_out
from imil_backend.images.masks.masks import mask_coverage
from imil_backend.loop.answers.sample_states import SampleState, load_mask
from imil_backend.loop.base.backend import Backend
from imil_backend.store.tables import Annotation, Sample

Painted = tuple[Sample, SampleState]  # with a mask
PANEL = 512  # pixels, the height of a panel
GAP = 8  # white pixels between panels
PAINT, PAINT_OPACITY = (229, 72, 77), 0.5


def before_and_after(backend: Backend, sample: Sample, mask_sha256: str, fill: str) -> Image.Image:
    """Three panels, at most PANEL pixels high: the original, what was painted, the blackout.

    Raises:
        ImageError: the image cannot be read.
        MaskError: the mask cannot be read.
    """
    pixels, mask = backend.read_image(Path(sample.path)), load_mask(backend, mask_sha256, sample)
    before = _panel(pixels)
    return _in_a_row([before, _painted(before, mask), _panel(black_out(pixels, mask, fill))])


def exchanged(backend: Backend, sample: Sample, state: SampleState, donor: Painted | None) -> Image.Image:
    """The original, what was painted, and a counterexample: with the irrelevant part of the donor.

    Without a donor two panels. Raises as `before_and_after`.
    """
    before, mask = _before(backend, sample, state)
    panels = [before, _painted(before, mask)]
    if donor is not None:
        panels.append(_exchanged(backend, before, mask, state.outside, donor))
    return _in_a_row(panels)


def counterexample(backend: Backend, sample: Sample, state: SampleState, donor: Painted) -> Image.Image:
    """A panel of the sample with the irrelevant part of the donor. Raises as `before_and_after`."""
    before, mask = _before(backend, sample, state)
    return _exchanged(backend, before, mask, state.outside, donor)


def _before(
    backend: Backend, sample: Sample, state: SampleState
) -> tuple[Image.Image, npt.NDArray[np.bool_]]:
    """A panel of the original, and the mask."""
    panel = _panel(backend.read_image(Path(sample.path)))
    return panel, load_mask(backend, state.mask_sha256 or "", sample)


def _exchanged(
    backend: Backend, before: Image.Image, mask: npt.NDArray[np.bool_], outside: bool, donor: Painted
) -> Image.Image:
    given, theirs = donor
    region = mask_coverage(mask, *before.size)
    if not outside:
        own = mask_coverage(load_mask(backend, theirs.mask_sha256 or "", given), *before.size)
        region = np.maximum(region, own)
    pasted = _panel(backend.read_image(Path(given.path))).resize(before.size, Image.Resampling.BOX)
    return Image.composite(pasted, before, Image.fromarray((255 * region).astype(np.uint8)))


def readers_apart(backend: Backend, answers: Sequence[Annotation]) -> Image.Image:
    """The original, and a panel for each reader with what that one painted. Raises as `before_and_after`."""
    sample = answers[0].sample
    before = _panel(backend.read_image(Path(sample.path)))
    masks = [
        load_mask(backend, answer.mask_sha256, sample)
        if answer.mask_sha256
        else np.zeros((sample.height, sample.width), bool)
        for answer in answers
    ]
    return _in_a_row([before, *(_painted(before, mask) for mask in masks)])


def _panel(pixels: npt.NDArray[np.uint8]) -> Image.Image:
    height = min(pixels.shape[0], PANEL)
    width = max(1, round(pixels.shape[1] * height / pixels.shape[0]))
    return Image.fromarray(pixels).convert("RGB").resize((width, height), Image.Resampling.BOX)


def _painted(panel: Image.Image, mask: npt.NDArray[np.bool_]) -> Image.Image:
    tint = PAINT_OPACITY * 255 * mask_coverage(mask, *panel.size)
    return Image.composite(Image.new("RGB", panel.size, PAINT), panel, Image.fromarray(tint.astype(np.uint8)))


def _in_a_row(panels: Sequence[Image.Image]) -> Image.Image:
    width, height = panels[0].size
    row = Image.new("RGB", (len(panels) * width + (len(panels) - 1) * GAP, height), "white")
    for place, panel in enumerate(panels):
        row.paste(panel, (place * (width + GAP), 0))
    return row
