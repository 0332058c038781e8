from pathlib import Path

import pytest
import torch

from imil_backend.errors import WeightsError
from imil_backend.learning.networks.network import (
    ModelConfig,
    build_network,
    load_backbone,
    load_model,
    save_model,
)

CONFIG = ModelConfig(("normal", "lesion"), 32, 1, "v1", name="round-1", parent="baseline", round=1)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    torch.manual_seed(1)
    save_model(path, build_network(2, "v1"), CONFIG)
    return path


@pytest.mark.slow
def test_the_variants_differ_in_where_the_stride_sits():
    for variant, strides in (("v1", ((2, 2), (1, 1))), ("v1.5", ((1, 1), (2, 2)))):
        block = build_network(2, variant).layer3[0]
        assert (block.conv1.stride, block.conv2.stride) == strides


@pytest.mark.slow
def test_a_model_comes_back_with_its_configuration(saved: Path):
    network, config = load_model(saved)
    assert config == CONFIG
    assert not network.training
    assert network.layer2[0].conv1.stride == (2, 2)
    torch.manual_seed(1)
    assert torch.equal(network.layer4[2].conv3.weight, build_network(2, "v1").layer4[2].conv3.weight)


@pytest.mark.slow
def test_a_backbone_keeps_the_networks_own_classifier(saved: Path):
    network = build_network(5, "v1")
    head = network.fc.weight.clone()
    load_backbone(network, saved)
    assert torch.equal(network.fc.weight, head)
    assert torch.equal(network.conv1.weight, load_model(saved)[0].conv1.weight)


@pytest.mark.slow
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
