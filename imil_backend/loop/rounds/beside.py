"""Class evidence beside a task's image: where the version that asks saw what speaks for its prediction."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imil_backend.errors import ImageError, LearningError
from imil_backend.label_studio.labeling.words import words_of
from imil_backend.learning.contract.evidence import EvidenceFile, SampleEvidence, read_evidence
from imil_backend.loop.base.backend import Backend
from imil_backend.store.tables import Sample, Version

logger = logging.getLogger(__name__)

_SIDE = 384  # pixels, the longer side of a picture
_COLOUR, _OPACITY = (255, 153, 0), 0.65  # where the most speaks for the class


@dataclass(frozen=True)
class Beside:
    """A picture, and the words below it."""

    picture: bytes  # JPEG
    says: str


def evidence_beside(
    backend: Backend, version: Version, language: str, classes: list[str]
) -> Callable[[Sample], Beside | None]:
    """A function that gives a sample's picture; None where the version has kept no evidence of it.

    Args:
        backend: where images are read.
        version: whose class evidence is shown.
        language: of the words, one of LANGUAGES.
        classes: of the dataset, in its order.
    """
    try:
        file = read_evidence(Path(version.directory))
    except LearningError as error:
        logger.warning("Tasks are pushed without class evidence: %s", error)
        file = None
    return lambda sample: _beside(backend, file, sample, language, classes)


def _beside(
    backend: Backend, file: EvidenceFile | None, sample: Sample, language: str, classes: list[str]
) -> Beside | None:
    evidence = file.sample(sample.key) if file else None
    if evidence is None:
        return None
    try:
        pixels = backend.read_image(Path(sample.path))
    except ImageError:
        return None  # the push itself says why
    return Beside(_picture(pixels, evidence.predicted), _says(evidence, language, classes))


def _says(evidence: SampleEvidence, language: str, classes: list[str]) -> str:
    best = int(evidence.probabilities.argmax())
    says = f"{classes[best]} ({evidence.probabilities[best]:.0%})"
    return words_of(language)["evidence_says"].format(says=says)


def _picture(pixels: NDArray[np.uint8], evidence: NDArray[np.float16]) -> bytes:
    """The image in grey, with what speaks for a class over it, smoothed between the cells."""
    grey = Image.fromarray(pixels).convert("L")
    scale = _SIDE / max(grey.size)
    size = [max(1, round(side * scale)) for side in grey.size]
    grey = grey.resize(size, Image.Resampling.BICUBIC).convert("RGB")
    speaking = evidence.astype(np.float32).clip(min=0)
    share = Image.fromarray(speaking / (speaking.max() or 1)).resize(grey.size, Image.Resampling.BICUBIC)
    opacity = (255 * _OPACITY * np.asarray(share).clip(0, 1)).astype(np.uint8)
    buffer = io.BytesIO()
    tinted = Image.composite(Image.new("RGB", grey.size, _COLOUR), grey, Image.fromarray(opacity))
    tinted.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
