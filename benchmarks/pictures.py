"""Images to measure on, as files in ImageFolder's layout: real X-rays where given, else phantoms."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from imil_backend.images.phantoms import write_phantoms
from imil_backend.learning.contract.training_job import Recipe, TrainingJob, TrainingSample
from imil_backend.learning.inputs.data import SampleSet, fill_cache, load_dataset

CLASSES = ("a", "b")


def write_pictures(directory: Path, archive: Path | None, count: int, size: tuple[int, int] | None) -> str:
    """Write `count` JPEGs to `a/` and `b/` in turns; what they are, in words.

    Args:
        directory: Made.
        archive: The zip of X-rays, or None for phantoms.
        count: How many files.
        size: (width, height) to which they are upscaled, or None: as they are.
    """
    for name in CLASSES:
        (directory / name).mkdir(parents=True)

    def write(number: int, data: bytes) -> None:
        path = directory / CLASSES[number % 2] / f"{number}.jpg"
        if size is None and archive:
            path.write_bytes(data)
        else:
            picture = Image.open(io.BytesIO(data)).convert("L")
            picture.resize(size or picture.size, Image.Resampling.BICUBIC).save(path, quality=90)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(write, range(count), _sources(directory.parent, archive, count)))
    kind = "real X-rays, 224 px" if archive else "phantoms (drawn), 224 px"
    return f"{kind}, upscaled to {size[0]} x {size[1]}" if size else kind


def _sources(scratch: Path, archive: Path | None, count: int) -> Iterator[bytes]:
    if archive:
        with zipfile.ZipFile(archive) as pictures:
            names = sorted(name for name in pictures.namelist() if "/images/" in name and name.endswith("g"))
            for number in range(count):  # spread over the archive
                yield pictures.read(names[number * len(names) // count])
        return
    index = write_phantoms(scratch / f"drawn-{count}", max(count, 40), size=224)
    for path in sorted((index.parent / "images").iterdir()):
        yield path.read_bytes()


def samples_of(directory: Path, held_out: int = 0) -> list[TrainingSample]:
    """The files of `write_pictures`; the last `held_out` as validation split and as many as test split."""
    paths = sorted(directory.glob("*/*.jpg"), key=lambda path: int(path.stem))
    splits = ["train"] * (len(paths) - 2 * held_out) + ["validation"] * held_out + ["test"] * held_out
    return [
        TrainingSample(
            path.stem,
            str(path),
            hashlib.sha256(path.read_bytes()).hexdigest(),
            CLASSES.index(path.parent.name),
            split,  # type: ignore[arg-type]
            path.stem,
        )
        for path, split in zip(paths, splits, strict=True)
    ]


def training_job_of(cache: Path, recipe: Recipe, device: str, name: str = "benchmark") -> TrainingJob:
    """A job on such files, from random weights."""
    return TrainingJob(name, CLASSES, 1, recipe, str(cache), device=device)


def cached(directory: Path, cache: Path, recipe: Recipe) -> SampleSet:
    """The files as training sees them: decoded, resized and kept."""
    job, samples = training_job_of(cache, recipe, "cpu"), samples_of(directory)
    return load_dataset(job, samples, fill_cache(job, samples, lambda done, total: None)).splits["train"]
