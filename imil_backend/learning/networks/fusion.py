"""A network made ready for answering: batch norms folded into convolutions, small ones as matrix products."""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from imil_backend.learning.networks.convolution import use_matrix_products
from imil_backend.learning.networks.runtime import Runtime

Network = TypeVar("Network", bound=nn.Module)


def fused_for_inference(network: Network, runtime: Runtime) -> Network:
    """A copy in evaluation mode on the device, in the runtime's precision; the network stays as it is.

    Its inputs must have its type, see `dtype_of`; nothing is cast on the way.
    """
    copy = deepcopy(network).eval()
    _fold(copy)
    use_matrix_products(copy)
    kind = torch.bfloat16 if runtime.precision == "bfloat16" else torch.float32
    return copy.to(runtime.device, kind).to(memory_format=torch.channels_last)


def dtype_of(network: nn.Module) -> torch.dtype:
    """The type of a network's weights."""
    return next(network.parameters()).dtype


def _fold(network: nn.Module) -> None:
    """Fold each batch norm that is registered right after its convolution, as in torchvision's ResNet."""
    for module in network.modules():
        children = list(module.named_children())
        convolutions = {name: child for name, child in children if isinstance(child, nn.Conv2d)}
        norms = {name: child for name, child in children if isinstance(child, nn.BatchNorm2d)}
        for (before, _), (after, _) in pairwise(children):
            if before in convolutions and after in norms:
                setattr(module, before, fuse_conv_bn_eval(convolutions[before], norms[after]))
                setattr(module, after, nn.Identity())
