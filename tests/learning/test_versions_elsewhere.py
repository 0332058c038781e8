"""A version in other people's code: loaded rightly as docs/versions.md says, and never wrongly in silence."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torchvision.models import resnet50

from imil_backend.errors import SettingsError, WeightsError
from imil_backend.learning.contract.training_job import MODEL_FILE
from imil_backend.learning.inference import prediction
from imil_backend.learning.inference.prediction import Predictor
from imil_backend.learning.networks.imagenet_weights import fetch_weights
from imil_backend.learning.networks.network import (
    ModelConfig,
    Variant,
    build_network,
    config_path,
    load_backbone,
    load_model,
    save_model,
)
from imil_backend.learning.networks.network_export import check_onnx, write_onnx, write_state_dict

pytestmark = pytest.mark.slow  # networks, written and read

WITH_THE_PACKAGE, WITHOUT_IT, STATE_DICT, ONNX, AN_IMAGE = re.findall(
    r"```python\n(.*?)```", (Path(__file__).parents[2] / "docs" / "versions.md").read_text("utf-8"), re.DOTALL
)


def make_version(directory: Path, variant: Variant) -> Path:
    """A network whose blocks all do something, so that a stride in the wrong place shows."""
    torch.manual_seed(3)
    network = build_network(3, variant)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.0)
    network.train()
    with torch.no_grad():
        network.fc.weight.mul_(10)
        for _ in range(3):
            network(torch.rand(4, 3, 64, 64))  # running statistics of its own
    config = ModelConfig(("a", "b", "c"), 64, 1, variant, name="films-round1", parent="films-round0", round=1)
    save_model(directory / MODEL_FILE, network, config)
    return directory / MODEL_FILE


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    variants: tuple[Variant, ...] = ("v1", "v1.5")
    return {variant: make_version(tmp_path_factory.mktemp(variant), variant) for variant in variants}


@pytest.fixture(scope="module")
def onnx(versions: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The v1 version as ONNX."""
    path = tmp_path_factory.mktemp("onnx") / "films-round1.onnx"
    write_onnx(path, *load_model(versions["v1"]))
    return path


def make_older(path: Path, directory: Path) -> Path:
    """The version as it was written before its names told the variant."""
    older = directory / MODEL_FILE
    tensors = load_file(path)
    save_file({name.removeprefix("resnet50_v1."): tensor for name, tensor in tensors.items()}, older)
    shutil.copy(config_path(path), config_path(older))
    return older


@pytest.mark.parametrize(
    ("variant", "loading", "older"),
    [
        ("v1", WITH_THE_PACKAGE, False),
        ("v1.5", WITH_THE_PACKAGE, False),
        ("v1", WITHOUT_IT, False),
        ("v1.5", WITHOUT_IT, False),
        ("v1", WITHOUT_IT, True),
    ],
    ids=["v1", "v1.5", "v1 without the package", "v1.5 without the package", "an older v1 without it"],
)
def test_the_documents_lines_answer_as_the_backend_does(
    versions: dict[str, Path],
    variant: str,
    loading: str,
    older: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = make_older(versions[variant], tmp_path) if older else versions[variant]
    pixels = np.random.default_rng(1).integers(0, 256, (90, 70), dtype=np.uint8)
    Image.fromarray(pixels).save(path.with_name("film.png"))
    monkeypatch.chdir(path.parent)
    names: dict[str, Any] = {}
    for block in (loading, AN_IMAGE):
        exec(block, names)
    assert np.allclose(names["probabilities"], ours(path, pixels, monkeypatch), atol=1e-4)


def ours(path: Path, pixels: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> NDArray[np.float64]:
    """What the backend answers, in float32."""
    monkeypatch.setattr(prediction, "faster_precision", lambda *_: "float32")
    predictor = Predictor(path.parent, "cpu")
    [answer] = predictor.predict([predictor.squash(pixels)])
    return np.asarray(answer)


@pytest.mark.parametrize(
    ("variant", "loading"), [("v1.5", STATE_DICT), ("v1", ONNX)], ids=["state dict", "ONNX"]
)
def test_what_is_exported_answers_as_the_backend_does(
    versions: dict[str, Path],
    onnx: Path,
    variant: str,
    loading: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Through ONNX the strides of v1 come along; tracing takes some seconds, so once only."""
    if loading == STATE_DICT:
        write_state_dict(tmp_path / "films-round1.safetensors", *load_model(versions[variant]))
    else:
        shutil.copy(onnx, tmp_path)
    pixels = np.random.default_rng(1).integers(0, 256, (90, 70), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "film.png")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in (loading, AN_IMAGE):
        exec(block, names)
    assert np.allclose(names["probabilities"], ours(versions[variant], pixels, monkeypatch), atol=1e-4)
    assert names["about"].classes == ["a", "b", "c"]


def test_onnx_that_answers_otherwise_is_refused(versions: dict[str, Path], onnx: Path) -> None:
    network, _ = load_model(versions["v1"])
    check_onnx(onnx, network, 64)
    wrong = build_network(3, "v1.5").eval()
    wrong.load_state_dict(network.state_dict())
    with pytest.raises(WeightsError, match="ONNX Runtime and torch differ by"):
        check_onnx(onnx, wrong, 64)


def test_onnx_that_answers_otherwise_is_not_kept(
    versions: dict[str, Path], onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exporter is replaced by one that gives another network's program."""

    class Program:
        model = SimpleNamespace(metadata_props={})

        def save(self, path: Path, external_data: bool) -> None:
            shutil.copy(onnx, path)

    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: Program())
    with pytest.raises(WeightsError, match="differ"):
        write_onnx(tmp_path / "films.onnx", *load_model(versions["v1.5"]))
    assert list(tmp_path.iterdir()) == []


def test_onnx_without_its_packages_says_what_to_install(
    versions: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(SettingsError, match=r"imil-backend\[onnx\]"):
        write_onnx(tmp_path / "films.onnx", *load_model(versions["v1.5"]))


def test_a_state_dict_of_a_v1_version_is_refused(versions: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"films-round1 is a ResNet-50 v1, .*--format onnx"):
        write_state_dict(tmp_path / "films.safetensors", *load_model(versions["v1"]))
    assert list(tmp_path.iterdir()) == []


def test_the_strides_place_matters_for_that_test(versions: dict[str, Path]) -> None:
    network, _ = load_model(versions["v1"])
    wrong = build_network(3, "v1.5").eval()
    wrong.load_state_dict(network.state_dict())
    images = torch.rand(4, 3, 64, 64)
    with torch.inference_mode():
        difference = (network(images).softmax(1) - wrong(images).softmax(1)).abs().max()
    assert difference > 0.002


def test_torchvisions_network_refuses_a_v1_version_and_takes_the_other(versions: dict[str, Path]) -> None:
    network = resnet50(num_classes=3)
    with pytest.raises(RuntimeError, match="Missing key"):
        network.load_state_dict(load_file(versions["v1"]))  # it names resnet50_v1.conv1.weight beside
    assert network.load_state_dict(load_file(versions["v1.5"])).missing_keys == []


def test_a_weights_file_tells_by_itself_what_it_needs(versions: dict[str, Path]) -> None:
    with safe_open(versions["v1"], "pt") as file:
        about = json.loads(file.metadata()["imil"])
    assert about == {
        "classes": ["a", "b", "c"],
        "image_size": 64,
        "channels": 1,
        "variant": "v1",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "backbone": "resnet50",
    }


def test_the_same_network_makes_the_same_file(versions: dict[str, Path], tmp_path: Path) -> None:
    network, config = load_model(versions["v1"])
    save_model(tmp_path / MODEL_FILE, network, config)
    assert (tmp_path / MODEL_FILE).read_bytes() == versions["v1"].read_bytes()


@pytest.mark.parametrize("variant", ["v1", "v1.5"])
def test_an_older_version_opens_as_before(
    versions: dict[str, Path], variant: Variant, tmp_path: Path
) -> None:
    older = make_older(versions[variant], tmp_path)
    network, config = load_model(older)
    assert (config.variant, network.layer2[0].conv1.stride[0]) == (variant, 2 if variant == "v1" else 1)
    backbone = build_network(5, variant)
    load_backbone(backbone, older)
    assert torch.equal(backbone.conv1.weight, load_model(versions[variant])[0].conv1.weight)
    assert fetch_weights(str(older), tmp_path / "cache") == older


def test_a_configuration_of_the_other_variant_is_refused(versions: dict[str, Path], tmp_path: Path) -> None:
    shutil.copy(versions["v1"], tmp_path / MODEL_FILE)
    shutil.copy(config_path(versions["v1.5"]), tmp_path)
    for use in (load_model, lambda path: load_backbone(build_network(5, "v1.5"), path)):
        with pytest.raises(WeightsError, match=r"holds a ResNet-50 v1, and .*model\.json says v1\.5"):
            use(tmp_path / MODEL_FILE)


def test_a_v1_file_without_its_configuration_is_still_taken_for_v1(
    versions: dict[str, Path], tmp_path: Path
) -> None:
    alone = shutil.copy(versions["v1"], tmp_path / "alone.safetensors")
    kept = fetch_weights(str(alone), tmp_path / "cache")
    assert json.loads(config_path(kept).read_text())["variant"] == "v1"
    network = build_network(5, "v1")
    load_backbone(network, kept)
    assert torch.equal(network.conv1.weight, load_model(versions["v1"])[0].conv1.weight)
