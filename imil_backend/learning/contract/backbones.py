"""The networks that can be trained, described without torch: each an image classifier of torchvision."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_BACKBONE = "resnet50"


@dataclass(frozen=True)
class Backbone:
    """A network of torchvision, and where it is cut.

    Attributes:
        title: for people.
        weights: torchvision's weights for it that were trained on ImageNet.
        weights_megabytes: how much is downloaded.
        stem: names of the modules before the stages.
        stages: names of the stages, the last of which can be trained alone.
        head: name of the linear classifier. It is fed with the mean of the last stage's features over the
            image, and is what ImageNet's weights are used without.
        smallest_image: pixels a side, below which a stage has nothing left to see. Sizes that it divides
            leave no border out.
        options: for torchvision's builder, beside the number of classes.
    """

    title: str
    weights: str
    weights_megabytes: int
    stem: tuple[str, ...] = ("conv1", "bn1", "relu", "maxpool")
    stages: tuple[str, ...] = ("layer1", "layer2", "layer3", "layer4")
    head: str = "fc"
    smallest_image: int = 32
    # Each residual block is the identity at first. That is what lets a network learn from a few hundred
    # images without other weights (Goyal et al. 2017, 5.1).
    options: tuple[tuple[str, bool], ...] = (("zero_init_residual", True),)


# By torchvision's name. ResNet-50 is the one that is tested in all parts and measured in docs/performance.md.
BACKBONES: dict[str, Backbone] = {
    "resnet18": Backbone("ResNet-18", "IMAGENET1K_V1", 45),
    "resnet34": Backbone("ResNet-34", "IMAGENET1K_V1", 83),
    "resnet50": Backbone("ResNet-50", "IMAGENET1K_V2", 98),
    "resnet101": Backbone("ResNet-101", "IMAGENET1K_V2", 171),
    "resnet152": Backbone("ResNet-152", "IMAGENET1K_V2", 230),
}
