"""What several rooms must agree on is written down in one file of the package."""

from __future__ import annotations

from pathlib import Path

import pytest

import imil_backend

PACKAGE = Path(imil_backend.__file__).parent


@pytest.mark.parametrize(
    ("text", "file"),
    [
        ('"imil_sample"', "label_studio/labeling/task_data.py"),
        ('"nothing"', "label_studio/labeling/answers.py"),
        ('"skipped"', "label_studio/labeling/answers.py"),
        ("Resampling.BILINEAR", "images/resizing.py"),
    ],
)
def test_it_stands_in_one_file_alone(text: str, file: str) -> None:
    found = {
        str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if text in path.read_text("utf-8")
    }
    assert found == {file}
