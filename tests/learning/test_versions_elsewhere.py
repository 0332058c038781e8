"""A version in other people's code: loaded rightly as docs/versions.md says, and never wrongly in silence."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torchvision.models import resnet50

from imil_backend.errors import WeightsError
from imil_backend.learning.contract.job import MODEL_FILE
from imil_backend.learning.inference import prediction
from imil_backend.learning.inference.prediction import Predictor
from imil_backend.learning.networks.network import (
    ModelConfig,
    Variant,
    build_network,
    config_path,
    load_backbone,
    load_model,
    save_model,
)
from imil_backend.learning.networks.weights import fetch_weights

pytestmark = pytest.mark.slow  # networks, written and read

WITH_THE_PACKAGE, WITHOUT_IT, AN_IMAGE = re.findall(
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
    monkeypatch.setattr(prediction, "faster_precision", lambda *_: "float32")
    predictor = Predictor(path.parent, "cpu")
    [ours] = predictor.predict([predictor.squash(pixels)])
    assert np.allclose(names["probabilities"], ours, atol=1e-4)


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
