"""A network of a backbone, its two parts, and its file: safetensors with a configuration beside it."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.models import get_model  # type: ignore[attr-defined]  # it is, but not marked so

from imil_backend.errors import WeightsError
from imil_backend.files import replacing
from imil_backend.learning.contract.backbones import BACKBONES, DEFAULT_BACKBONE
from imil_backend.learning.contract.training_job import Trainable, write_json

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
    backbone: str = DEFAULT_BACKBONE  # older files do not say it


def build_network(classes: int, variant: Variant, backbone: str = DEFAULT_BACKBONE) -> nn.Module:
    """A randomly initialised network with `classes` outputs.

    Args:
        classes: outputs.
        variant: "v1.5" is torchvision's network. "v1" is ResNet-50 as of He et al. (2015): layers 2 to 4 take
            their stride in the first 1x1 convolution, not in the 3x3 one.
        backbone: a name in BACKBONES.
    """
    network: nn.Module = get_model(backbone, num_classes=classes, **dict(BACKBONES[backbone].options))
    if variant == "v1":
        for stage in ("layer2", "layer3", "layer4"):
            block: Any = network.get_submodule(f"{stage}.0")
            block.conv1.stride, block.conv2.stride = (2, 2), (1, 1)
    return network


class Tail(nn.Sequential):
    """The last layers of a network, sharing its weights; fed with what the `Trunk` before them gives.

    (n, channels, height, width) to logits (n, classes). Its layers have their names in the network.
    """

    def __init__(self, network: nn.Module, backbone: str, trainable: Trainable) -> None:
        parts = BACKBONES[backbone]
        stages = parts.stages[-1:] if trainable == "layer4" else ()
        layers = [(name, network.get_submodule(name)) for name in stages]
        head = (parts.head, network.get_submodule(parts.head))
        super().__init__(OrderedDict([*layers, ("mean", _MeanOverImage()), head]))


class _MeanOverImage(nn.Module):
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features.mean((2, 3))


class Trunk(nn.Sequential):
    """The layers before a `Tail`: (n, 3, height, width) to features (n, channels, height, width)."""

    def __init__(self, network: nn.Module, backbone: str, trainable: Trainable) -> None:
        parts = BACKBONES[backbone]
        stages = parts.stages if trainable == "classifier" else parts.stages[:-1]
        layers = [network.get_submodule(name) for name in (*parts.stem, *stages)]
        super().__init__(*layers, *([nn.AdaptiveAvgPool2d(1)] if trainable == "classifier" else []))


def before_classifier(network: nn.Module, backbone: str) -> tuple[nn.Module, nn.Linear]:
    """The layers from images (n, 3, height, width) to features (n, channels), and the classifier after them.

    Both share the network's weights; the layers are in evaluation mode.
    """
    head = network.get_submodule(BACKBONES[backbone].head)
    assert isinstance(head, nn.Linear)  # noqa: S101  # as BACKBONES says
    return nn.Sequential(Trunk(network, backbone, "classifier"), nn.Flatten()).eval(), head


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
        config = ModelConfig(**{**raw, **tuples})
    except FileNotFoundError as error:
        raise WeightsError(
            f"{path} is missing: weights cannot be used without their configuration. Copy it from "
            "where the weights came from, or fetch them again: `imil weights`."
        ) from error
    except (ValueError, TypeError, KeyError) as error:
        raise WeightsError(f"{path} is not a model configuration of this package: {error}") from error
    if config.backbone not in BACKBONES:
        raise WeightsError(
            f"{path} names the network {config.backbone!r}, which this installation does not know. "
            "Use the version of imil-backend that it was trained with."
        )
    return config


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


def load_model(path: Path) -> tuple[nn.Module, ModelConfig]:
    """A saved network, on the CPU and in evaluation mode, with its configuration.

    Raises:
        WeightsError: a file is missing or damaged, or the tensors are those of another network.
    """
    config = read_config(path)
    network = build_network(len(config.classes), config.variant, config.backbone)
    load_tensors(network, _tensors_for(path, config), path, config.backbone)
    return network.eval(), config


def load_backbone(network: nn.Module, path: Path) -> None:
    """Take everything but the classifier from a weights file with its configuration.

    Raises:
        WeightsError: the file is missing or damaged, or the tensors are those of another network.
    """
    config = read_config(path)
    head = f"{BACKBONES[config.backbone].head}."
    own_head = {name: tensor for name, tensor in network.state_dict().items() if name.startswith(head)}
    load_tensors(network, {**_tensors_for(path, config), **own_head}, path, config.backbone)


def load_tensors(
    network: nn.Module, tensors: dict[str, torch.Tensor], path: Path, backbone: str = DEFAULT_BACKBONE
) -> None:
    """Fill a network, every tensor of it; path and backbone are named when they do not fit.

    Raises:
        WeightsError: the tensors are those of another network.
    """
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise WeightsError(
            f"{path} does not contain the weights of this {BACKBONES[backbone].title}: {error}"
        ) from error


def _tensors_of(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}


def _tensors_for(path: Path, config: ModelConfig) -> dict[str, torch.Tensor]:
    """The tensors of a file, unless it contradicts the configuration beside it."""
    if config.variant != "v1" and is_marked_v1(path):
        raise WeightsError(
            f"{path} holds a ResNet-50 v1, and {config_path(path)} says {config.variant}: they do "
            "not belong together."
        )
    return read_tensors(path)
