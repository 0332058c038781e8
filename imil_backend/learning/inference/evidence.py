"""Class evidence in the same pass as the prediction; what it is, see `contract/evidence.py`."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from imil_backend.learning.contract.backbones import BACKBONES
from imil_backend.learning.inference.prediction import predict_split
from imil_backend.learning.inputs.data import Advance, SampleSet
from imil_backend.learning.networks.network import ModelConfig
from imil_backend.learning.networks.runtime import Runtime

_AT_ONCE = 4096  # samples, whose maps of all classes are held


class WithEvidence(nn.Module):
    """A network whose outputs are its logits, then the cells of the map of each class.

    (n, 3, height, width) to float32 (n, classes + classes * cells).
    """

    def __init__(self, network: nn.Module, backbone: str) -> None:
        super().__init__()
        self.network = network
        self._parts = BACKBONES[backbone]

    def forward(self, images: Tensor) -> Tensor:
        """Logits exactly as the network gives them, and its maps."""
        features = images
        for name in (*self._parts.stem, *self._parts.stages):
            features = self.network.get_submodule(name)(features)
        head: nn.Linear = self.network.get_submodule(self._parts.head)  # type: ignore[assignment]
        logits = head(functional.adaptive_avg_pool2d(features, 1).flatten(1))
        weights = head.weight.float()[:, :, None, None] / features[0, 0].numel()
        maps = functional.conv2d(features.float(), weights)
        return torch.cat([logits.float(), maps.flatten(1)], dim=1)


def cells_of(config: ModelConfig) -> int:
    """Cells a side of a network's maps."""
    return -(-config.image_size // BACKBONES[config.backbone].smallest_image)


def predict_with_evidence(
    network: nn.Module,
    samples: SampleSet,
    config: ModelConfig,
    runtime: Runtime,
    advance: Advance,
    batch_size: int,
) -> NDArray[np.float32]:
    """As `predict_split`: logits, then the map of the label's class, then that of the predicted class.

    Returns:
        (samples, classes + 2 * cells * cells).
    """
    classes, side = len(config.classes), cells_of(config)
    asked = WithEvidence(network, config.backbone)
    parts = []
    for start in range(0, len(samples), _AT_ONCE):
        some = samples.select(np.arange(start, min(start + _AT_ONCE, len(samples))))
        outputs = predict_split(
            asked, some, config, runtime, advance, batch_size, outputs=classes * (1 + side * side)
        )
        logits, maps = outputs[:, :classes], outputs[:, classes:].reshape(len(some), classes, side * side)
        rows = np.arange(len(some))
        parts.append(np.hstack([logits, maps[rows, some.labels], maps[rows, logits.argmax(axis=1)]]))
    width = classes + 2 * side * side
    return np.concatenate(parts) if parts else np.zeros((0, width), np.float32)
