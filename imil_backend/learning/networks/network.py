"""ResNet-50 in its two stride variants, and its file: safetensors with a configuration beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.models import ResNet, resnet50

from imil_backend.errors import WeightsError
from imil_backend.files import replacing
from imil_backend.learning.contract.job import Trainable, write_json

Variant = Literal["v1", "v1.5"]
# Before every name in a v1 network's file. All names and shapes are those of torchvision's resnet50, which is
# v1.5: without this it would take them, say that all keys matched, and answer wrongly.
V1_PREFIX = "resnet50_v1."
METADATA_KEY = "imil"  # of a weights file: JSON, see `portable`
_ORIGIN = {"name", "parent", "round"}
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ModelConfig:
    """What must be known to use a weights file; `model.json` beside it."""

    classes: tuple[str, ...]  # empty: ImageNet's thousand, not used here
    image_size: int
    channels: int  # of the images as they are read, 1 or 3; the network itself always sees 3
    variant: Variant
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    name: str = ""
    parent: str | None = None
    round: int = 0


def build_network(classes: int, variant: Variant) -> ResNet:
    """A randomly initialised ResNet-50 with `classes` outputs, each residual block the identity at first.

    That is what lets it learn from a few hundred images without other weights (Goyal et al. 2017, 5.1).

    "v1" is the network of He et al. (2015): layers 2 to 4 take their stride in the first 1x1 convolution.
    "v1.5" is torchvision's: they take it in the 3x3 convolution.
    """
    network = resnet50(num_classes=classes, zero_init_residual=True)
    if variant == "v1":
        for layer in (network.layer2, network.layer3, network.layer4):
            layer[0].conv1.stride, layer[0].conv2.stride = (2, 2), (1, 1)
    return cast(ResNet, network)


class Tail(nn.Module):
    """The last layers of a ResNet, sharing its weights; fed with what the `Trunk` before them gives."""

    def __init__(self, network: ResNet, trainable: Trainable) -> None:
        super().__init__()
        self.layer4 = network.layer4 if trainable == "layer4" else nn.Identity()
        self.fc = network.fc

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits (n, classes) of features (n, channels, height, width)."""
        logits: torch.Tensor = self.fc(self.layer4(features).mean((2, 3)))
        return logits


class Trunk(nn.Sequential):
    """The layers before a `Tail`: (n, 3, height, width) to features (n, channels, height, width)."""

    def __init__(self, network: ResNet, trainable: Trainable) -> None:
        first = [network.conv1, network.bn1, network.relu, network.maxpool]
        stages = [network.layer1, network.layer2, network.layer3]
        last = [network.layer4, network.avgpool] if trainable == "classifier" else []
        super().__init__(*first, *stages, *last)


def config_path(weights: Path) -> Path:
    """Where the configuration of a weights file lies: the same name, ending in .json."""
    return weights.with_suffix(".json")


def read_config(weights: Path) -> ModelConfig:
    """The configuration beside a weights file.

    Raises:
        WeightsError: there is none, or it is not one of ours.
    """
    path = config_path(weights)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        tuples = {name: tuple(raw[name]) for name in ("classes", "mean", "std")}
        return ModelConfig(**{**raw, **tuples})
    except FileNotFoundError as error:
        raise WeightsError(
            f"{path} is missing: weights cannot be used without their configuration. Copy it from where they "
            "came from, or fetch them again: `imil weights`."
        ) from error
    except (ValueError, TypeError, KeyError) as error:
        raise WeightsError(f"{path} is not a model configuration of this package: {error}") from error


def is_marked_v1(weights: Path) -> bool:
    """Whether a safetensors file says by its names that it holds a v1 network; older files do not.

    Raises:
        WeightsError: the file is missing or damaged.
    """
    try:
        with safe_open(weights, "pt") as file:
            return any(name.startswith(V1_PREFIX) for name in file.keys())  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{weights} cannot be read as safetensors: {error}") from error


def read_tensors(weights: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file by torchvision's names, in memory.

    Raises:
        WeightsError: the file is missing or damaged.
    """
    try:
        tensors = load_file(weights)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{weights} cannot be read as safetensors: {error}") from error
    return {name.removeprefix(V1_PREFIX): tensor for name, tensor in tensors.items()}


def save_weights(path: Path, network: nn.Module) -> None:
    """Write a network's tensors atomically, for the training that goes on with them."""
    with replacing(path) as temporary:
        save_file(_tensors_of(network), temporary)


def save_model(path: Path, network: nn.Module, config: ModelConfig) -> None:
    """Write a network and its configuration; see `save_tensors`."""
    save_tensors(path, _tensors_of(network), config)


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], config: ModelConfig) -> None:
    """Write weights and their configuration; the weights come last, so that they are never without it.

    The file says itself what it needs, in its names and in its metadata, should it be taken away alone.
    """
    write_json(config_path(path), asdict(config))
    prefix = V1_PREFIX if config.variant == "v1" else ""
    about = json.dumps(portable(config), ensure_ascii=False)
    with replacing(path) as temporary:
        # One entry: safetensors writes several in any order, and a deterministic training has equal files.
        save_file(
            {prefix + name: tensor for name, tensor in tensors.items()},
            temporary,
            metadata={METADATA_KEY: about},
        )


def portable(config: ModelConfig) -> dict[str, Any]:
    """What a weights file says of itself: the configuration without where it comes from."""
    return {name: value for name, value in asdict(config).items() if name not in _ORIGIN}


def load_model(path: Path) -> tuple[ResNet, ModelConfig]:
    """A saved network, on the CPU and in evaluation mode, with its configuration.

    Raises:
        WeightsError: a file is missing or damaged, or the tensors are those of another network.
    """
    config = read_config(path)
    network = build_network(len(config.classes), config.variant)
    load_tensors(network, _tensors_for(path, config), path)
    return network.eval(), config


def load_backbone(network: nn.Module, path: Path) -> None:
    """Take everything but the classifier from a weights file with its configuration.

    Raises:
        WeightsError: the file is missing or damaged, or the tensors are those of another network.
    """
    own_head = {name: tensor for name, tensor in network.state_dict().items() if name.startswith("fc.")}
    load_tensors(network, {**_tensors_for(path, read_config(path)), **own_head}, path)


def load_tensors(network: nn.Module, tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Fill a network, every tensor of it; `path` is named when they do not fit.

    Raises:
        WeightsError: the tensors are those of another network.
    """
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise WeightsError(f"{path} does not hold the weights of this ResNet-50: {error}") from error


def _tensors_of(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}


def _tensors_for(path: Path, config: ModelConfig) -> dict[str, torch.Tensor]:
    """The tensors of a file, unless it contradicts the configuration beside it."""
    if config.variant != "v1" and is_marked_v1(path):
        raise WeightsError(
            f"{path} holds a ResNet-50 v1, and {config_path(path)} says {config.variant}: they do not belong "
            "together."
        )
    return read_tensors(path)
