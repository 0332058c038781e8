"""MaskTune: what a trained network looked at most is hidden from it, for one more epoch.

Asgari et al. 2022, "MaskTune: Mitigating Spurious Correlations by Forcing to Explore". Where it looked is its
class evidence for the class that it predicted; what lies two standard deviations above an image's mean is
hidden, as theirs, and the highest cell in any case: of images of 64 px the map has four cells.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imil_backend.files import write_atomically
from imil_backend.images.masks.blackout import black_out
from imil_backend.learning.contract.training_job import TrainingSample
from imil_backend.loop.base.backend import Backend

_DEVIATIONS = 2.0


def most_attended(evidence: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The cells (side, side) of a map of class evidence that are hidden."""
    threshold = evidence.mean() + _DEVIATIONS * evidence.std()
    hidden: NDArray[np.bool_] = evidence >= min(threshold, evidence.max())
    return hidden


def hide(
    backend: Backend,
    samples: Sequence[TrainingSample],
    keys: Sequence[str],
    evidence: NDArray[np.float32],
    directory: Path,
) -> list[TrainingSample]:
    """The samples, of which those of the keys are images without what was looked at most.

    Args:
        backend: with the limits of images.
        samples: as they are split.
        keys: (n,) of training samples.
        evidence: (n, side, side) of each.
        directory: where these images are written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    maps = dict(zip(keys, evidence, strict=True))
    return [
        _hidden(backend, each, maps[each.key], directory) if each.key in maps else each for each in samples
    ]


def _hidden(
    backend: Backend, sample: TrainingSample, evidence: NDArray[np.float32], directory: Path
) -> TrainingSample:
    path = directory / f"{sample.key}.png"
    if not path.exists():
        pixels = backend.read_image(Path(sample.image))
        height, width = pixels.shape[:2]
        cells = Image.fromarray(most_attended(evidence))
        mask = np.asarray(cells.resize((width, height), Image.Resampling.NEAREST))
        buffer = io.BytesIO()
        Image.fromarray(black_out(pixels, mask)).save(buffer, "PNG", compress_level=1)
        write_atomically(path, buffer.getvalue())
    return replace(sample, image=str(path), sha256=hashlib.sha256(path.read_bytes()).hexdigest())
