from pathlib import Path

import pytest
import torch

from imil_backend.learning.contract.training_job import read_json
from imil_backend.learning.inference.prediction import Predictor
from imil_backend.learning.networks import precision
from imil_backend.learning.networks.precision import REMEMBERED_FILE, faster_precision
from imil_backend.learning.networks.runtime import start_runtime

CPU = torch.device("cpu")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, float]]:
    """What the next measurements give; each is taken once."""
    answers: list[dict[str, float]] = []
    monkeypatch.setattr(precision, "_seconds", lambda _device: answers.pop(0))
    return answers


@pytest.mark.parametrize(("bfloat16", "expected"), [(0.5, "bfloat16"), (0.95, "float32"), (9.0, "float32")])
def test_bfloat16_is_taken_where_it_is_faster_and_measured_once(
    tmp_path: Path, measured: list, bfloat16: float, expected: str
):
    measured.append({"float32": 1.0, "bfloat16": bfloat16})
    assert faster_precision(CPU, tmp_path / "cache") == expected
    assert faster_precision(CPU, tmp_path / "cache") == expected


@pytest.mark.parametrize(
    ("what", "value"), [("_processor", lambda: "another"), ("CODE_VERSION", 0), ("torch.__version__", "0")]
)
def test_it_is_measured_anew_on_another_device_and_with_another_torch_or_code(
    tmp_path: Path, measured: list, monkeypatch: pytest.MonkeyPatch, what: str, value: object
):
    measured += [{"float32": 1.0, "bfloat16": 9.0}, {"float32": 1.0, "bfloat16": 0.1}]
    assert faster_precision(CPU, tmp_path) == "float32"
    monkeypatch.setattr(f"imil_backend.learning.networks.precision.{what}", value)
    assert faster_precision(CPU, tmp_path) == "bfloat16"
    assert len(read_json(tmp_path / REMEMBERED_FILE)) == 2


def test_what_cannot_be_remembered_is_used_all_the_same(tmp_path: Path, measured: list):
    (tmp_path / "file").touch()
    measured.append({"float32": 1.0, "bfloat16": 0.1})
    assert faster_precision(CPU, tmp_path / "file" / "cache") == "bfloat16"


@pytest.mark.parametrize("damaged", [b"\xd1", b"{", b"[]"])
def test_what_cannot_be_read_is_measured_anew(tmp_path: Path, measured: list, damaged: bytes):
    (tmp_path / REMEMBERED_FILE).write_bytes(damaged)
    measured.append({"float32": 1.0, "bfloat16": 0.1})
    assert [faster_precision(CPU, tmp_path) for _ in range(2)] == ["bfloat16"] * 2


@pytest.mark.slow
def test_training_and_answering_take_the_same(tmp_path: Path, measured: list, model_dir: Path):
    measured.append({"float32": 1.0, "bfloat16": 0.1})
    assert start_runtime("cpu", "auto", tmp_path, deterministic=False).precision == "bfloat16"
    predictor = Predictor(model_dir, "cpu", tmp_path)
    assert next(predictor._network.parameters()).dtype == torch.bfloat16


def test_a_wish_is_not_measured(tmp_path: Path):
    assert start_runtime("cpu", "bfloat16", tmp_path, deterministic=False).precision == "bfloat16"
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_processor_that_emulates_bfloat16_takes_float32(tmp_path: Path):
    answer = faster_precision(CPU, tmp_path)
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():  # has the instructions: either may be faster
        assert answer in {"float32", "bfloat16"}
    else:
        assert answer == "float32"
