"""Samples as small pictures. Made when first asked for, and kept in the cache."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image
from sqlalchemy import select

from imil_backend.errors import NotFoundError
from imil_backend.files import write_atomically
from imil_backend.loop.base.backend import Backend
from imil_backend.store.tables import Sample

SIDE = 192  # pixels, of the longer side
_FOLDER = "thumbnails"


def thumbnail(backend: Backend, dataset_id: int, key: str) -> bytes:
    """The JPEG of a sample.

    Raises:
        NotFoundError: the dataset has no sample with this key.
        ImageError: the original can no longer be read.
    """
    with backend.store.begin() as session:
        found = select(Sample).where(Sample.dataset_id == dataset_id, Sample.key == key)
        sample = session.scalar(found)
    if sample is None:
        raise NotFoundError(f"Dataset {dataset_id} has no sample {key!r}.")
    path = backend.path("cache", _FOLDER, sample.sha256[:2], f"{sample.sha256}.jpg")
    if not path.exists():
        write_atomically(path, _made(backend, Path(sample.path)))
    return path.read_bytes()


def _made(backend: Backend, original: Path) -> bytes:
    pixels = backend.read_image(original, draft_size=SIDE)
    image = Image.fromarray(pixels)
    image.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    made = io.BytesIO()
    image.save(made, "JPEG", quality=80)
    return made.getvalue()
