"""When a training is compiled, and that it then trains the same. Compiled without code being generated."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_jobs import JobMaker

from imil_backend.learning.child import training_process
from imil_backend.learning.child.steps import compiling
from imil_backend.learning.child.steps.compiling import MICRO_BATCHES_TO_PAY
from imil_backend.learning.contract.training_job import MODEL_FILE, RESULT_FILE, read_json

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("device", "micro_batches", "compiler", "expected"),
    [
        ("cuda", MICRO_BATCHES_TO_PAY, "/usr/bin/cc", True),
        ("cuda", MICRO_BATCHES_TO_PAY - 1, "/usr/bin/cc", False),
        ("cuda", MICRO_BATCHES_TO_PAY, None, False),
        ("cpu", 10 * MICRO_BATCHES_TO_PAY, "/usr/bin/cc", False),
    ],
)
def test_it_pays_on_a_gpu_with_much_to_do_and_a_compiler(
    monkeypatch: pytest.MonkeyPatch, device: str, micro_batches: int, compiler: str | None, *, expected: bool
):
    monkeypatch.setattr(compiling.shutil, "which", lambda _name: compiler)
    assert compiling._pays(torch.device(device), micro_batches) is expected


@pytest.mark.training
def test_a_compiled_training_is_the_same_training(make_job: JobMaker, monkeypatch: pytest.MonkeyPatch):
    micro_batches, graphs = [], []

    def pays_the_second_time(_device: torch.device, count: int) -> bool:
        micro_batches.append(count)
        return len(micro_batches) == 2

    def backend(graph: torch.fx.GraphModule, _inputs: list[torch.Tensor]) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(compiling, "_pays", pays_the_second_time)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    monkeypatch.setattr(torch._dynamo.config, "suppress_errors", False)  # put back after the test
    recipe = {"epochs": 2, "trainable": "layer4"}
    jobs: list[Path] = [make_job(name, recipe=recipe) for name in ("plain", "compiled")]
    for job in jobs:
        training_process.run_training_job(job)

    assert micro_batches == [2 * 3 * 2] * 2  # epochs, batches of 40 images, micro-batches
    assert graphs
    assert [read_json(job / RESULT_FILE)["choices"]["compiled"] for job in jobs] == [False, True]
    ours, theirs = (load_file(job / MODEL_FILE) for job in jobs)
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-5) for name in ours)
