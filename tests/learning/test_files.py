"""Files are replaced whole, and a failed write leaves nothing behind."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from imil_backend.errors import StoreError
from imil_backend.files import replacing


def test_a_file_is_replaced_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), RuntimeError("cut off")])
def test_a_full_disk_leaves_the_old_file_and_gives_its_room_back(tmp_path: Path, error: Exception) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with (
        pytest.raises(StoreError, match=r"file cannot be written, with \d+ MiB free"),
        replacing(path) as temporary,
    ):
        temporary.write_text("a part")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
