"""Inspecting the images of an import: what each of them is, or why it cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path

from imil_backend.errors import ImageError, MaskError
from imil_backend.images.intensity.scaling import Window
from imil_backend.images.masks.masks import mask_from_png
from imil_backend.images.reading import ImageInfo, inspect_image
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.sources.paths import is_file
from imil_backend.loop.sources.rows import Row

READERS = 2  # decoding releases Python's lock; more threads only take memory
IN_FLIGHT = 64


def look_at(
    backend: Backend,
    rows: list[Row],
    progress: Callable[[int, int], None] | None,
    window: Window | None = None,
) -> Iterator[tuple[Row, ImageInfo | str]]:
    """Every row with what its image is, or the reason why it cannot be used.

    Args:
        backend: with the limits of images.
        rows: of the source.
        progress: called with the number of rows looked at, and of all.
        window: by which clinicians are to see the images of more than 8 bits.
    """
    limits = backend.settings
    group_key = backend.group_key()

    def look(row: Row) -> tuple[Row, ImageInfo | str]:
        try:
            if row.mask and not is_file(row.mask):
                return row, f"Its mask {row.mask.name[:200]} does not exist."
            info = inspect_image(
                row.image,
                max_bytes=limits.max_image_bytes,
                max_pixels=limits.max_image_pixels,
                group_key=group_key,
                window=window,
            )
        except ImageError as error:
            return row, str(error)
        if problem := _mask_problem(row.mask, info):
            if row.mask_was_named:
                return row, problem
            return replace(row, mask=None, mask_problem=problem), info
        return row, info

    with ThreadPoolExecutor(READERS) as pool:
        waiting = iter(rows)
        done = 0
        while batch := list(islice(waiting, IN_FLIGHT)):
            for outcome in pool.map(look, batch):
                done += 1
                if progress:
                    progress(done, len(rows))
                yield outcome


def _mask_problem(mask: Path | None, info: ImageInfo) -> str | None:
    """Why a mask cannot be used for an image, or None."""
    try:
        if mask:
            mask_from_png(mask, info.width, info.height)
    except MaskError as error:
        return f"Its mask {mask and mask.name} cannot be used: {error}"
    except OSError as error:
        return f"Its mask {mask and mask.name} cannot be read: {error.strerror}."
    return None


def warn_of_unused_masks(rows: Iterable[Row]) -> list[str]:
    """A warning about images that are imported without a mask, because the one beside them cannot be used."""
    problems = [f"{row.name}: {row.mask_problem}" for row in rows if row.mask_problem]
    if not problems:
        return []
    return [f"Images imported without the mask beside them: {len(problems)}. The first: {problems[0]}"]
