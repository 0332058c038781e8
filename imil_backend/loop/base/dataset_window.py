"""The window in which clinicians see images of more than 8 bits. Training uses the whole range."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from imil_backend.errors import DatasetError
from imil_backend.images.intensity.scaling import Window
from imil_backend.images.intensity.windows import in_words, parse_window
from imil_backend.images.reading import ImageInfo
from imil_backend.store.tables import Dataset

EXTREMES = "from the darkest to the brightest value"


def window_of(dataset: Dataset) -> Window | None:
    """The window chosen for a dataset; None: the files' own."""
    return Window(**dataset.shown_window) if dataset.shown_window else None


def check_window(window: Window | None, images: Sequence[ImageInfo]) -> None:
    """Refuse a window that does not apply to the images of an import.

    Args:
        window: that was asked for with this import.
        images: looked at with it.

    Raises:
        DatasetError: none of them has more than 8 bits, or it leaves nothing to see in any.
    """
    deep = [image for image in images if image.deep]
    if window and not deep:
        raise DatasetError("--window does not apply to these images: none has more than 8 bits. Omit it.")
    if window and all(image.hidden for image in deep):
        raise DatasetError(
            f"The window {in_words(window)} leaves nothing visible in any of the {len(deep)} images "
            "of more than 8 bits. Choose another, in Hounsfield units for CT, else in stored values."
        )


def choose_window(dataset: Dataset, text: str | None) -> None:
    """Store the window given to an import; without one, the previous choice stays."""
    if text is not None:
        window = parse_window(text)
        dataset.shown_window = window._asdict() if window else None


def shown_by(window: Window | None, images: Sequence[ImageInfo]) -> dict[str, int]:
    """How clinicians see the images of more than 8 bits, in words, and how many of them so.

    Args:
        window: the dataset's.
        images: of the import.
    """
    counts = Counter(_shown_by(window or image.window) for image in images if image.deep)
    return dict(counts.most_common())


def _shown_by(window: Window | None) -> str:
    return f"with the window {in_words(window)}" if window else EXTREMES
