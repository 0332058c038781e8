"""Keras' ResNet-50, as TensorFlow.js stores it, to torchvision's names and conventions. Pure numpy.

Keras' network is v1 (stride in the first convolution of layers 2 to 4). Its convolutions have biases, which
go into the batch norms; its batch norms have another epsilon; its kernels are height x width x in x out; its
input is BGR in 0..255 less a mean, which goes into the first convolution, so that the usual normalised RGB
may be fed (exact but for the border of three pixels, where the convolution sees zeros).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from imil_backend.errors import WeightsError
from imil_backend.learning.networks.network import IMAGENET_MEAN, IMAGENET_STD

Tensors = dict[str, NDArray[np.float32]]
_KERAS_RGB_MEAN = np.array([123.68, 116.779, 103.939])
_KERAS_EPSILON, _TORCH_EPSILON = 1e-3, 1e-5
_BLOCKS = (3, 4, 6, 3)


def read_tensorflow_js(read: Callable[[str], bytes]) -> Tensors:
    """The weights that `model.json` lists, by name; `read` gives a file's content.

    Raises:
        WeightsError: the files are not as long as the list says.
    """
    tensors = {}
    for group in json.loads(read("model.json"))["weightsManifest"]:
        data = b"".join(read(path) for path in group["paths"])
        offset = 0
        for entry in group["weights"]:
            count = int(np.prod(entry["shape"]))
            if entry["dtype"] != "float32" or offset + 4 * count > len(data):
                raise WeightsError(f"The weights do not match their manifest, from {entry['name']} on.")
            tensors[entry["name"]] = np.frombuffer(data, "<f4", count, offset).reshape(entry["shape"])
            offset += 4 * count
    return tensors


def convert_keras(keras: Mapping[str, NDArray[np.float32]]) -> Tensors:
    """A state dict for torchvision's resnet50 in its v1 variant, classifier included."""
    result: Tensors = {}
    for keras_name, keras_norm, name, norm in _layers():
        kernel = keras[f"{keras_name}/kernel"].transpose(3, 2, 0, 1).astype(np.float64)
        bias = keras[f"{keras_name}/bias"].astype(np.float64)
        if name == "conv1":
            kernel, bias = _take_normalised_rgb(kernel, bias)
        result[f"{name}.weight"] = kernel.astype(np.float32)
        result[f"{norm}.weight"] = keras[f"{keras_norm}/gamma"]
        result[f"{norm}.bias"] = keras[f"{keras_norm}/beta"]
        result[f"{norm}.running_mean"] = (keras[f"{keras_norm}/moving_mean"] - bias).astype(np.float32)
        variance = keras[f"{keras_norm}/moving_variance"].astype(np.float64) + _KERAS_EPSILON - _TORCH_EPSILON
        result[f"{norm}.running_var"] = variance.astype(np.float32)
    result["fc.weight"], result["fc.bias"] = keras["fc1000/kernel"].T, keras["fc1000/bias"]
    return {name: np.ascontiguousarray(values) for name, values in result.items()}


def _layers() -> list[tuple[str, str, str, str]]:
    """Convolution and batch norm: Keras' names, torchvision's names."""
    layers = [("conv1", "bn_conv1", "conv1", "bn1")]
    for stage, blocks in enumerate(_BLOCKS, start=1):
        for block in range(blocks):
            theirs, ours = f"{stage + 1}{'abcdef'[block]}_branch", f"layer{stage}.{block}"
            for number, part in enumerate(("2a", "2b", "2c"), start=1):
                layers.append(
                    (f"res{theirs}{part}", f"bn{theirs}{part}", f"{ours}.conv{number}", f"{ours}.bn{number}")
                )
            if block == 0:
                layers.append(
                    (f"res{theirs}1", f"bn{theirs}1", f"{ours}.downsample.0", f"{ours}.downsample.1")
                )
    return layers


def _take_normalised_rgb(
    kernel: NDArray[np.float64], bias: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Have the first convolution take (RGB/255 - mean) / std instead of Keras' input."""
    rgb = kernel[:, ::-1]
    mean, std = 255 * np.array(IMAGENET_MEAN), 255 * np.array(IMAGENET_STD)
    shift = (rgb.sum(axis=(2, 3)) * (mean - _KERAS_RGB_MEAN)).sum(axis=1)
    return rgb * std[None, :, None, None], bias + shift
