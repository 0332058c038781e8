from pathlib import Path

import pytest
import torch

from imil_backend.errors import WeightsError
from imil_backend.learning.child.state.checkpoint import load_state, save_state
from imil_backend.learning.child.state.learner import last_layers, new_learner
from imil_backend.learning.child.state.state import of_whole_network
from imil_backend.learning.contract.training_job import Recipe
from imil_backend.learning.networks.network import ModelConfig, build_network
from imil_backend.learning.networks.runtime import Runtime

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


@pytest.mark.slow
def test_a_training_of_the_last_stage_leaves_a_state_of_the_whole_network():
    network = build_network(2, "v1.5", "resnet18")
    config = ModelConfig(("a", "b"), 32, 1, "v1.5", backbone="resnet18")
    recipe = Recipe(backbone="resnet18", trainable="layer4")
    runtime = Runtime(torch.device("cpu"), "float32")
    learner = last_layers(new_learner(network, config, recipe, runtime, 1), recipe, runtime)
    learner.network(torch.randn(4, 256, 2, 2)).square().sum().backward()
    learner.optimizer.step()
    saved = {"network": learner.network.state_dict(), "optimizer": learner.optimizer.state_dict()}

    whole = of_whole_network(saved, learner)

    other = build_network(2, "v1.5", "resnet18")
    other.load_state_dict(whole["network"])
    resumed = torch.optim.SGD(other.parameters(), 0.1, 0.9)
    resumed.load_state_dict(whole["optimizer"])
    trained = dict(learner.network.named_parameters())
    for name, parameter in other.named_parameters():
        assert torch.equal(parameter, network.get_parameter(name)), name
        assert (parameter in resumed.state) == (name in trained)
        if name in trained:
            expected = learner.optimizer.state[trained[name]]["momentum_buffer"]
            assert torch.equal(resumed.state[parameter]["momentum_buffer"], expected), name
