"""Looking at the images of a data set that is imported: what each of them is, or why it cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from imil_backend.errors import ImageError, MaskError
from imil_backend.images.masks import mask_from_png
from imil_backend.images.reading import ImageInfo, inspect_image
from imil_backend.images.scaling import Window
from imil_backend.loop.backend import Backend
from imil_backend.loop.sources import Row

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
            if row.mask and not row.mask.is_file():
                return row, f"Its mask {row.mask.name} is not there."
            info = inspect_image(
                row.image,
                max_bytes=limits.max_image_bytes,
                max_pixels=limits.max_image_pixels,
                group_key=group_key,
                window=window,
            )
            if row.mask:
                mask_from_png(row.mask, info.width, info.height)
            return row, info
        except ImageError as error:
            return row, str(error)
        except MaskError as error:
            return row, f"Its mask {row.mask and row.mask.name} cannot be used: {error}"

    with ThreadPoolExecutor(READERS) as pool:
        waiting = iter(rows)
        done = 0
        while batch := list(islice(waiting, IN_FLIGHT)):
            for outcome in pool.map(look, batch):
                done += 1
                if progress:
                    progress(done, len(rows))
                yield outcome
