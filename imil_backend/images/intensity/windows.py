"""Window and level: which values a clinician sees between black and white, as a person names it."""

from __future__ import annotations

import math

from imil_backend.errors import SettingsError
from imil_backend.images.intensity.scaling import Window

# CT, in Hounsfield units; centre and width as Radiopaedia's "Windowing (CT)" gives them.
PRESETS = {
    "lung": Window(-600, 1500),
    "mediastinum": Window(50, 350),
    "soft-tissue": Window(50, 400),
    "bone": Window(400, 1800),
    "brain": Window(40, 80),
}
OWN = "own"  # the files' own windows, or their extremes, again


def parse_window(text: str) -> Window | None:
    """A window from `CENTER,WIDTH` or a preset's name; None for `own`.

    Raises:
        SettingsError: it is neither.
    """
    if text == OWN:
        return None
    if text in PRESETS:
        return PRESETS[text]
    try:
        center, width = (float(number) for number in text.split(","))
    except ValueError:
        center, width = math.nan, math.nan
    if not (math.isfinite(center) and math.isfinite(width) and width > 0):
        raise SettingsError(
            f"{text!r} is not a window. Use CENTER,WIDTH with a width above 0, such as 40,400; for "
            f"CT also {', '.join(PRESETS)}; or {OWN} for the files' own."
        )
    return Window(center, width)


def in_words(window: Window) -> str:
    """`center -600, width 1500 (lung)`."""
    name = next((f" ({name})" for name, preset in PRESETS.items() if preset == window), "")
    return f"center {window.center:g}, width {window.width:g}{name}"
