"""Convolutions with few outputs and many channels as matrix products, which a CPU does up to twice as fast.

PyTorch's own (oneDNN's) want long rows to fill vector registers with, and in the last stage of a ResNet rows
are 2 to 4 long where images have 64 to 128 pixels. The product has the same terms, summed in another order
(Chellapilla et al. 2006, "High Performance Convolutional Neural Networks for Document Processing"). With a
3 x 3 kernel it takes nine times the memory of the images: 4.7 MB in float32 of 16 with 512 channels and 4 x 4
pixels.
"""

from __future__ import annotations

from typing import Any, TypeGuard

import torch
from torch import nn
from torch.nn import functional

# Beyond these, as in the stage before the last one, oneDNN's convolutions are as fast, and faster with two
# threads: `python -m benchmarks convolution`.
MOST_OUTPUTS = 16  # of an image, in one channel: 4 x 4
FEWEST_CHANNELS = 512  # that come in, and that go out


class MatrixConvolution(nn.Conv2d):
    """Another convolution, with the same weights; a matrix product on a CPU, where it has few outputs."""

    def __init__(self, other: nn.Conv2d) -> None:
        """Share the weights of a convolution that `is_plain`."""
        names = ("in_channels", "out_channels", "kernel_size", "stride", "padding")
        shape: dict[str, Any] = {name: getattr(other, name) for name in names}
        super().__init__(**shape, bias=other.bias is not None, device="meta")
        self.weight, self.bias = other.weight, other.bias
        self._kernel, self._stride = self.kernel_size[0], self.stride[0]
        self._padding = int(self.padding[0])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(n, channels, height, width), as of `nn.Conv2d`."""
        kernel, stride, padding = self._kernel, self._stride, self._padding
        height, width = ((side + 2 * padding - kernel) // stride + 1 for side in images.shape[2:])
        if images.device.type != "cpu" or not 0 < height * width <= MOST_OUTPUTS:
            return super().forward(images)
        padded = images.permute(0, 2, 3, 1)
        if padding:
            padded = functional.pad(padded, (0, 0, *[padding] * 4))
        below, beside = stride * (height - 1) + 1, stride * (width - 1) + 1
        seen = [
            padded[:, down : down + below : stride, right : right + beside : stride]
            for down in range(kernel)
            for right in range(kernel)
        ]
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)
        joined = torch.cat(seen, dim=3) if kernel > 1 else seen[0]
        # As a matrix: of four dimensions PyTorch may make a copy of the weights for each image.
        product = functional.linear(joined.flatten(0, 2), weight, self.bias)
        return product.view(len(images), height, width, self.out_channels).permute(0, 3, 1, 2)


def use_matrix_products(network: nn.Module) -> None:
    """Exchange the plain convolutions of many channels; all names and weights stay as they are."""
    for module in network.modules():
        for name, child in list(module.named_children()):
            if is_plain(child) and min(child.in_channels, child.out_channels) >= FEWEST_CHANNELS:
                setattr(module, name, MatrixConvolution(child))


def is_plain(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether it is a convolution whose kernel is a square without gaps, of all channels."""
    return (
        type(module) is nn.Conv2d
        and isinstance(module.padding, tuple)
        and module.padding_mode == "zeros"
        and (module.groups, module.dilation) == (1, (1, 1))
        and all(len(set(each)) == 1 for each in (module.kernel_size, module.stride, module.padding))
    )
