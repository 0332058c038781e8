"""Convolutions as matrix products."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn
from torchvision.models import get_model

from imil_backend.learning.contract.training_job import Precision
from imil_backend.learning.networks import convolution
from imil_backend.learning.networks.convolution import MatrixConvolution, use_matrix_products
from imil_backend.learning.networks.fusion import dtype_of, fused_for_inference
from imil_backend.learning.networks.network import Variant, build_network
from imil_backend.learning.networks.runtime import Runtime

CPU = Runtime(torch.device("cpu"), "float32")


@pytest.fixture(params=["contiguous", "channels_last"])
def memory_format(request: pytest.FixtureRequest) -> torch.memory_format:
    return {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}[request.param]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kernel, stride, padding", [(1, 1, 0), (1, 2, 0), (3, 1, 1), (3, 2, 1), (3, 1, 0)])
@pytest.mark.parametrize("size", [(3, 3), (4, 4), (3, 5)])
def test_the_product_is_the_convolution_and_so_are_its_gradients(
    size: tuple[int, int],
    kernel: int,
    stride: int,
    padding: int,
    bias: bool,
    memory_format: torch.memory_format,
):
    torch.manual_seed(0)
    plain = nn.Conv2d(5, 6, kernel, stride, padding, bias=bias).double().to(memory_format=memory_format)
    product = MatrixConvolution(deepcopy(plain))
    images = torch.rand(2, 5, *size, dtype=torch.double).contiguous(memory_format=memory_format)
    found = []
    for layer in (plain, product):
        seen = images.clone().requires_grad_()
        outputs = layer(seen)
        outputs.square().sum().backward()
        found.append([outputs, seen.grad, *(each.grad for each in layer.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_large_outputs_are_convolved(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(convolution.functional, "linear", None)
    product = MatrixConvolution(nn.Conv2d(1, 1, 3, padding=1))
    assert product(torch.rand(1, 1, 4, 5)).shape == (1, 1, 4, 5)
    with pytest.raises(TypeError):
        product(torch.rand(1, 1, 4, 4))


def test_weights_are_shared_and_keep_their_names():
    network = build_network(2, "v1", "resnet18")
    before = network.state_dict()
    use_matrix_products(network)
    found = {name for name, module in network.named_modules() if isinstance(module, MatrixConvolution)}
    assert found == {"layer4.0.conv2", "layer4.1.conv1", "layer4.1.conv2"}  # of 512 channels, in and out
    after = network.state_dict()
    assert after.keys() == before.keys()
    assert all(after[name].data_ptr() == before[name].data_ptr() for name in before)


def test_convolutions_of_other_kinds_stay(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(convolution, "FEWEST_CHANNELS", 1)
    others = [
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(1, 1, 3, dilation=2),
        nn.Conv2d(1, 1, (1, 3)),
        nn.Conv2d(1, 1, 3, padding="same"),
        nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"),
    ]
    network = nn.Sequential(*others)
    use_matrix_products(network)
    assert list(network) == others


def test_in_bfloat16_it_is_as_exact_as_the_convolution():
    torch.manual_seed(0)
    plain = nn.Conv2d(64, 32, 3, padding=1).to(memory_format=torch.channels_last)
    images = torch.rand(2, 64, 4, 4).contiguous(memory_format=torch.channels_last)
    expected = plain(images)
    with torch.autocast("cpu", torch.bfloat16):
        found = [layer(images) for layer in (plain, MatrixConvolution(plain))]
    for each in found:
        assert each.dtype == torch.bfloat16
        torch.testing.assert_close(each.float(), expected, rtol=0.01, atol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("precision, bound", [("float32", 1e-3), ("bfloat16", 0.1)])
@pytest.mark.parametrize("variant", ["v1", "v1.5"])
def test_trained_and_answering_networks_use_them_and_say_the_same(
    variant: Variant, precision: Precision, bound: float
):
    runtime = Runtime(torch.device("cpu"), precision)
    torch.manual_seed(0)
    network = build_network(2, variant).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        expected = network(images)
        answering = fused_for_inference(network, runtime)
        assert not any(isinstance(module, MatrixConvolution) for module in network.modules())
        with runtime.autocast():
            found = runtime.replicate(network)(images)
        for each in (found, answering(images.to(dtype_of(answering)))):
            torch.testing.assert_close(each.float(), expected, rtol=bound, atol=bound)
        for used in (answering, network):
            assert sum(isinstance(module, MatrixConvolution) for module in used.modules()) == 11


def test_grouped_networks_of_torchvision_can_be_trained(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(convolution, "FEWEST_CHANNELS", 1)
    network = CPU.replicate(get_model("resnext50_32x4d", num_classes=2))
    network(torch.rand(2, 3, 64, 64)).sum().backward()
    assert all(each.grad is not None for each in network.parameters())
