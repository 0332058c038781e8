"""The real chest X-rays, where they are given."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.label_studio import missing

SETTING = "IMIL_TEST_XRAYS"
COLUMNS = (
    *("--image", "images/{file}", "--split", "official_split", "--group", "patient", "--group", "subtype"),
    *("--mask", "masks/{file:stem}.png"),
)


@pytest.fixture(scope="session")
def xray_zip() -> Path:
    """The data set, to be imported with COLUMNS."""
    place = Path(os.environ.get(SETTING, "chest X-rays"))
    found = next(iter(sorted(place.glob("*.zip"))), place) if place.is_dir() else place
    if not found.is_file():
        missing(f"The data set of chest X-rays ({place})", SETTING)
    return found
