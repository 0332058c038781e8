import numpy as np
import pytest
import torch
from tiny_jobs import RECIPE
from torch.utils._python_dispatch import TorchDispatchMode

from imil_backend.learning.child.state.learner import new_learner
from imil_backend.learning.child.steps.epoch import train_epoch
from imil_backend.learning.inputs.data import SampleSet
from imil_backend.learning.networks.network import ModelConfig, build_network
from imil_backend.learning.networks.runtime import Runtime

SAMPLES = 24


class Operations(TorchDispatchMode):
    """Writes down which operations are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, operation, _types, args=(), kwargs=None):
        self.names.add(operation.overloadpacket.__name__)
        return operation(*args, **(kwargs or {}))


@pytest.mark.slow
def test_an_epoch_never_waits_for_the_device():
    """No value is read back (`item`, a condition), and no shape depends on one."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (SAMPLES, 32, 32, 1), dtype=np.uint8)
    keys = tuple(map(str, range(SAMPLES)))
    samples = SampleSet(pixels, np.arange(SAMPLES), np.arange(SAMPLES) % 2, keys, keys)
    config = ModelConfig(("a", "b"), 32, 1, "v1.5")
    runtime = Runtime(torch.device("cpu"), "float32")
    learner = new_learner(build_network(2, "v1.5"), config, RECIPE, runtime, 2)
    train_epoch(learner, samples, RECIPE, runtime, 1, lambda _: None)
    with Operations() as seen:
        train_epoch(learner, samples, RECIPE, runtime, 2, lambda _: None)
    assert "convolution" in seen.names
    assert not seen.names & {"_local_scalar_dense", "nonzero", "is_nonzero"}
