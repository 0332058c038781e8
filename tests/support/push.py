"""Samples to push."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from imil_backend.label_studio.api.tasks import PushItem

SHOWN = {"label": "sick", "predicted": "healthy", "confidence": "83 %", "round": 1, "note": ""}


def png(width: int = 64, height: int = 48, seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def push_item(number: int, *, round_number: int = 1, read: Callable[[], bytes] | None = None) -> PushItem:
    return PushItem(
        sample_key=f"sample-{number}",
        filename="Doe^John 1970.PNG",
        read=read or (lambda: png(seed=number)),
        data={**SHOWN, "round": round_number},
    )
