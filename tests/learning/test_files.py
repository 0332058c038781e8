"""Files are replaced whole, and a failed write leaves nothing behind."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from imil_backend.errors import StoreError
from imil_backend.files import replacing, write_atomically
from imil_backend.learning.child.state.checkpoint import save_state

ROOM, LARGE = 100_000, 200_000  # bytes


def test_a_file_is_replaced_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def write_plainly(path: Path) -> None:
    write_atomically(path, bytes(LARGE))


def write_checkpoint(path: Path) -> None:
    save_state(path, {"weights": torch.zeros(LARGE)})


def write_safetensors(path: Path) -> None:
    with replacing(path) as temporary:
        save_file({"weights": torch.zeros(LARGE)}, temporary)


@contextmanager
def small_files_only() -> Iterator[None]:
    """The system lets this process write no file beyond ROOM bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("write", [write_plainly, write_checkpoint, write_safetensors])
def test_a_refused_write_leaves_the_old_file_and_gives_its_room_back(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with (
        small_files_only(),
        pytest.raises(StoreError, match=r"file cannot be written, with \d+ MiB free.*File too large"),
    ):
        write(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        NotImplementedError("no such operation"),
        SafetensorError("Error while serializing: TensorInvalidInfo"),
        ValueError("odd"),
    ],
)
def test_another_error_passes_as_it_is(tmp_path: Path, error: Exception) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(type(error)) as raised, replacing(path) as temporary:
        temporary.write_text("a part")
        raise error
    assert raised.value is error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_runtime_error_raised_while_an_unrelated_file_is_missing_passes(tmp_path: Path) -> None:
    try:
        (tmp_path / "missing").read_text()
    except OSError:
        with pytest.raises(RuntimeError, match="unrelated"), replacing(tmp_path / "file"):
            raise RuntimeError("unrelated") from None
