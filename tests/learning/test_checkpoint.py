from pathlib import Path

import pytest
import torch

from imil_backend.errors import WeightsError
from imil_backend.learning.child.state.checkpoint import load_state, save_state

STATE = {"epoch": 3, "network": {"weight": torch.arange(5000.0)}, "history": [{"loss": 0.5, "auc": None}]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_state(tmp_path / "checkpoint.pt", STATE)
    return tmp_path / "checkpoint.pt"


def test_a_state_comes_back_and_leaves_no_temporary_file(path: Path):
    state = load_state(path)
    assert torch.equal(state["network"]["weight"], STATE["network"]["weight"])
    assert (state["epoch"], state["history"]) == (3, [{"loss": 0.5, "auc": None}])
    assert list(path.parent.iterdir()) == [path]


def test_a_flipped_bit_is_noticed(path: Path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"checkpoint\.pt is damaged"):
        load_state(path)


@pytest.mark.parametrize("kept", [0, 100, 5000])
def test_a_cut_file_is_noticed(path: Path, kept: int):
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(WeightsError, match="not a complete training state"):
        load_state(path)


def test_nothing_but_tensors_and_plain_values_is_loaded(path: Path):
    torch.save({"path": Path("x")}, path)
    with pytest.raises(WeightsError, match="more than tensors and plain values"):
        load_state(path)


def test_another_format_is_refused(path: Path):
    torch.save({"format": 99}, path)
    with pytest.raises(WeightsError, match="format 99"):
        load_state(path)
