"""uint8 images to what the network sees: normalised, three channels, lightly augmented while training.

All on whole batches on the device, with parameters for each image of its own. There is no flip: a chest film
is not its own mirror image (the heart is on the left), and many other medical images are not either.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from imil_backend.learning.inputs.batches import PARAMETERS
from imil_backend.learning.networks.network import ModelConfig

_ROTATION = math.radians(7)
_SCALE = 0.1
_SHIFT = 0.06 * 2  # grid coordinates run from -1 to 1
_BRIGHTNESS = 0.1 * 255
_CONTRAST = 0.15
_MIDDLE_GREY = 127.5


def prepare(
    images: Tensor, config: ModelConfig, parameters: Tensor | None = None, size: int | None = None
) -> Tensor:
    """What the network is fed.

    Args:
        images: uint8 (n, height, width, 1 or 3), on the device; or features, which are fed as they are.
        config: gives mean and standard deviation.
        parameters: (n, PARAMETERS) in [-1, 1), on the device; None: no augmentation.
        size: pixels a side, if fewer than the images have.

    Returns:
        float32 (n, 3, height, width), of features (n, channels, height, width); channels last in memory.
    """
    if images.dtype != torch.uint8:
        return images.permute(0, 3, 1, 2).float()
    return normalize(vary(images, parameters, size), config)


def vary(images: Tensor, parameters: Tensor | None = None, size: int | None = None) -> Tensor:
    """Pixels as `prepare` resizes and augments them: float32 (n, 1 or 3, height, width) in 0..255."""
    pixels = images.permute(0, 3, 1, 2).float()
    if size is not None and size < pixels.shape[-1]:
        pixels = functional.interpolate(pixels, (size, size), mode="bilinear", antialias=True)
    return pixels if parameters is None else augment(pixels, parameters)


def normalize(pixels: Tensor, config: ModelConfig) -> Tensor:
    """What the network is fed, of `vary`'s pixels; see `prepare`."""
    mean, std = _on_device(config.mean, pixels.device), _on_device(config.std, pixels.device)
    return ((pixels - mean) / std).contiguous(memory_format=torch.channels_last)


@cache
@torch.inference_mode(False)  # or training could not use what a prediction put there first
def _on_device(values: tuple[float, float, float], device: torch.device) -> Tensor:
    """One value a channel, of 255, copied once: a copy out of the step would wait for the device."""
    return torch.tensor(values, device=device).view(1, 3, 1, 1) * 255


def augment(pixels: Tensor, parameters: Tensor) -> Tensor:
    """Rotate, scale, shift and brighten each image by its own parameters; outside of it is black.

    Args:
        pixels: float (n, channels, height, width) in 0..255.
        parameters: (n, PARAMETERS) in [-1, 1).
    """
    rotation, scale, right, down, brightness, contrast = parameters.view(-1, PARAMETERS).unbind(1)
    grid = functional.affine_grid(
        _affine(rotation * _ROTATION, 1 + scale * _SCALE, right * _SHIFT, down * _SHIFT),
        list(pixels.shape),
        align_corners=False,
    )
    moved = functional.grid_sample(pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    gain = (1 + contrast * _CONTRAST).view(-1, 1, 1, 1)
    offset = (brightness * _BRIGHTNESS).view(-1, 1, 1, 1) + _MIDDLE_GREY * (1 - gain)
    return moved.mul_(gain).add_(offset).clamp_(0, 255)


def _affine(angle: Tensor, scale: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """Matrices (n, 2, 3) that say where each pixel of the result comes from."""
    cosine, sine = torch.cos(angle) / scale, torch.sin(angle) / scale
    rows = [torch.stack([cosine, -sine, right], 1), torch.stack([sine, cosine, down], 1)]
    return torch.stack(rows, 1)
