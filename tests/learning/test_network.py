import json
from pathlib import Path

import pytest
import torch
from torchvision.models import get_model_weights

from imil_backend.errors import SettingsError, WeightsError
from imil_backend.learning.child.state.learner import new_learner
from imil_backend.learning.contract.backbones import BACKBONES, Backbone
from imil_backend.learning.contract.checks import check_recipe
from imil_backend.learning.contract.training_job import Recipe
from imil_backend.learning.networks.network import (
    ModelConfig,
    Tail,
    Trunk,
    build_network,
    load_backbone,
    load_model,
    save_model,
)
from imil_backend.learning.networks.runtime import Runtime

pytestmark = pytest.mark.slow  # networks, built and saved

CONFIG = ModelConfig(("normal", "lesion"), 32, 1, "v1", name="round-1", parent="baseline", round=1)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    torch.manual_seed(1)
    save_model(path, build_network(2, "v1"), CONFIG)
    return path


def test_the_variants_differ_in_where_the_stride_sits():
    for variant, strides in (("v1", ((2, 2), (1, 1))), ("v1.5", ((1, 1), (2, 2)))):
        block = build_network(2, variant).layer3[0]
        assert (block.conv1.stride, block.conv2.stride) == strides


def test_a_model_comes_back_with_its_configuration(saved: Path):
    network, config = load_model(saved)
    assert config == CONFIG
    assert not network.training
    assert network.layer2[0].conv1.stride == (2, 2)
    torch.manual_seed(1)
    assert torch.equal(network.layer4[2].conv3.weight, build_network(2, "v1").layer4[2].conv3.weight)


def test_a_backbone_keeps_the_networks_own_classifier(saved: Path):
    network = build_network(5, "v1")
    head = network.fc.weight.clone()
    load_backbone(network, saved)
    assert torch.equal(network.fc.weight, head)
    assert torch.equal(network.conv1.weight, load_model(saved)[0].conv1.weight)


def test_damaged_or_missing_files_are_named(saved: Path, tmp_path: Path):
    with pytest.raises(WeightsError, match=r"model\.json is missing"):
        load_model(tmp_path / "model.safetensors")
    copy = tmp_path / "model.safetensors"
    copy.with_suffix(".json").write_bytes(saved.with_suffix(".json").read_bytes())
    copy.write_bytes(saved.read_bytes()[:1_000_000])
    with pytest.raises(WeightsError, match="cannot be read as safetensors"):
        load_model(copy)
    copy.with_suffix(".json").write_text('{"classes": 3}')
    with pytest.raises(WeightsError, match="not a model configuration"):
        load_model(copy)


# --- other backbones


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_the_parts_of_every_backbone_are_where_they_are_said_to_be(name: str):
    """In all shapes, without weights."""
    with torch.device("meta"):
        network = build_network(2, "v1.5", name)
        size = BACKBONES[name].smallest_image
        for trainable in ("layer4", "classifier"):
            features = Trunk(network, name, trainable)(torch.empty(3, 3, size, size))
            assert Tail(network, name, trainable)(features).shape == (3, 2)
    assert BACKBONES[name].weights in get_model_weights(name).__members__


@pytest.mark.slow
@pytest.mark.parametrize("trainable", ["layer4", "classifier"])
def test_the_parts_together_are_the_network(trainable: str):
    network = build_network(2, "v1.5", "resnet18").eval()
    images = torch.rand(2, 3, 64, 64)
    parts = torch.nn.Sequential(Trunk(network, "resnet18", trainable), Tail(network, "resnet18", trainable))
    assert torch.allclose(parts.eval()(images), network(images), atol=1e-5)
    names = set(Tail(network, "resnet18", trainable).state_dict())
    assert names < set(network.state_dict())  # so that a checkpoint of it says what it holds


@pytest.mark.slow
def test_a_model_file_from_before_there_were_backbones_is_a_resnet50(saved: Path, tmp_path: Path):
    copy = tmp_path / "model.safetensors"
    copy.write_bytes(saved.read_bytes())
    raw = json.loads(saved.with_suffix(".json").read_text())
    assert raw.pop("backbone") == "resnet50"
    copy.with_suffix(".json").write_text(json.dumps(raw))
    assert load_model(copy)[1] == CONFIG
    copy.with_suffix(".json").write_text(json.dumps({**raw, "backbone": "transformer"}))
    with pytest.raises(WeightsError, match="names the network 'transformer'"):
        load_model(copy)


@pytest.mark.slow
def test_one_entry_adds_a_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Built, saved, loaded, and its last layers trained by a step."""
    with pytest.raises(SettingsError, match="backbone is 'resnext50_32x4d'"):
        check_recipe(Recipe(backbone="resnext50_32x4d"))
    monkeypatch.setitem(BACKBONES, "resnext50_32x4d", Backbone("ResNeXt-50", "IMAGENET1K_V2", 96))
    recipe = Recipe(backbone="resnext50_32x4d", image_size=32, trainable="layer4")
    check_recipe(recipe)
    config = ModelConfig(("a", "b"), 32, 1, "v1.5", backbone=recipe.backbone)
    network = build_network(2, "v1.5", recipe.backbone)
    save_model(tmp_path / "model.safetensors", network, config)
    loaded, read = load_model(tmp_path / "model.safetensors")
    assert read == config
    assert loaded.layer1[0].conv2.groups == 32
    whole = new_learner(loaded.train(), config, recipe, Runtime(torch.device("cpu"), "float32"), 1)
    images, labels = torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 0, 1])
    torch.nn.functional.cross_entropy(whole.network(images), labels).backward()
    before = {name: tensor.clone() for name, tensor in loaded.state_dict().items()}
    whole.optimizer.step()
    changed = {name for name, tensor in loaded.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {"conv1.weight", "layer4.2.conv3.weight", "fc.weight"} <= changed
