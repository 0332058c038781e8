"""A small U-Net that finds in an image what clinicians have painted in others (Ronneberger et al. 2015).

It sees every image at one working size, whatever the size that is trained on. It computes at half of that and
at less: the image's pixels come in as channels, and the mask's go out so (Shi et al. 2016, "sub-pixel
convolution"). That is four times as fast, and as sharp.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

WORKING_SIZE = 96  # pixels a side; a multiple of 16, by which the network divides
_WIDTHS = (16, 24, 48, 64)  # channels at 1/2, 1/4, 1/8 and 1/16 of the working size
_EPSILON = 1.0  # grey levels; keeps an image of one colour finite


class MaskNetwork(nn.Module):
    """Logits of 'irrelevant' for each pixel; 0.2 million parameters."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _block(4 * channels, _WIDTHS[0])
        self.down = nn.ModuleList(_block(above, below) for above, below in pairwise(_WIDTHS))
        self.up = nn.ModuleList(
            _convolution(above + below, above) for above, below in reversed(list(pairwise(_WIDTHS)))
        )
        self.last = nn.Conv2d(_WIDTHS[0], 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits.

        Args:
            images: float (n, channels, WORKING_SIZE, WORKING_SIZE) of `at_working_size`.

        Returns:
            (n, WORKING_SIZE, WORKING_SIZE).
        """
        features = self.first(functional.pixel_unshuffle(images, 2))
        passed = []
        for block in self.down:
            passed.append(features)
            features = block(functional.max_pool2d(features, 2))
        for convolution in self.up:
            larger = functional.interpolate(features, scale_factor=2.0, mode="nearest")
            features = convolution(torch.cat((larger, passed.pop()), dim=1))
        return functional.pixel_shuffle(self.last(features), 2)[:, 0]


def at_working_size(images: Tensor) -> Tensor:
    """What a mask network is given of images.

    Args:
        images: uint8 (n, height, width, channels).

    Returns:
        float (n, channels, WORKING_SIZE, WORKING_SIZE), of grey levels 0..255.
    """
    return resized(images.permute(0, 3, 1, 2).float(), WORKING_SIZE)


def resized(values: Tensor, size: int) -> Tensor:
    """(n, channels, size, size) of (n, channels, height, width), by area where it gets smaller."""
    if values.shape[-2:] == (size, size):
        return values
    return functional.interpolate(values, (size, size), mode="bilinear", antialias=True)


def standardize(images: Tensor) -> Tensor:
    """Each image with mean 0 and standard deviation 1 over all of its pixels and channels."""
    deviation, mean = torch.std_mean(images, dim=(1, 2, 3), keepdim=True, correction=0)
    return (images - mean) / (deviation + _EPSILON)


def _block(incoming: int, outgoing: int) -> nn.Sequential:
    return nn.Sequential(_convolution(incoming, outgoing), _convolution(outgoing, outgoing))


def _convolution(incoming: int, outgoing: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(incoming, outgoing, 3, padding=1, bias=False),
        nn.BatchNorm2d(outgoing),
        nn.ReLU(inplace=True),
    )
