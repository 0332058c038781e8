"""Predictions of a network: for a split while training, and for images that come one by one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from imil_backend.batching import BatchedCalls
from imil_backend.images.resizing import network_input
from imil_backend.learning.contract.training_job import MODEL_FILE
from imil_backend.learning.inputs.augmentation import prepare
from imil_backend.learning.inputs.data import Advance, Draw, SampleSet
from imil_backend.learning.inputs.prefetching import prefetch
from imil_backend.learning.networks.fusion import dtype_of, fused_for_inference
from imil_backend.learning.networks.network import ModelConfig, load_model
from imil_backend.learning.networks.precision import faster_precision
from imil_backend.learning.networks.runtime import Runtime, choose_device
from imil_backend.learning.scoring.metrics import softmax

_BATCH_SIZE = 32


def predict_split(
    network: nn.Module,
    samples: SampleSet,
    config: ModelConfig,
    runtime: Runtime,
    advance: Advance,
    batch_size: int = _BATCH_SIZE,
    drawn: Draw | None = None,
    outputs: int | None = None,
) -> NDArray[np.float32]:
    """Logits (images, classes) without augmentation, in every process; each computes some batches.

    Of all samples as they are, or of what is drawn from them; or other outputs, if their number is given.
    """
    network = fused_for_inference(network, runtime)
    count = len(samples) if drawn is None else len(drawn.indices)
    logits = torch.zeros(count, outputs or len(config.classes), device=runtime.device)
    starts = range(0, count, batch_size)[runtime.rank :: runtime.world_size]
    pieces = [slice(start, min(start + batch_size, count)) for start in starts]
    asked = pieces if drawn is None else [Draw(drawn.indices[each], drawn.views[each]) for each in pieces]
    with torch.inference_mode():
        for piece, images in zip(pieces, prefetch(samples, asked, runtime.device), strict=True):
            logits[piece] = _logits(network, images, config)
            advance(len(images) * runtime.world_size)
        return runtime.all_reduce(logits).cpu().numpy()


class Predictor:
    """A model version that answers; made once, used for many images by many threads."""

    def __init__(self, model_dir: Path, device: str = "auto", cache_dir: Path | None = None) -> None:
        """Load the model of a version's directory; `cache_dir` remembers which precision is the faster one.

        Raises:
            WeightsError: it is missing or damaged.
            SettingsError: the device is not there.
        """
        target = choose_device(device)
        network, self.config = load_model(model_dir / MODEL_FILE)
        self._device = target
        self._network = fused_for_inference(network, Runtime(target, faster_precision(target, cache_dir)))
        self._joined = BatchedCalls(self._probabilities)

    def predict(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """Probabilities (images, classes) of squashed images; threads that ask at once share a pass."""
        if not images:
            return np.empty((0, len(self.config.classes)))
        return np.asarray(self._joined(images))

    def squash(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(height, width) or (height, width, 3) to (size, size, channels), as the pixel cache does it."""
        return network_input(image, self.config.image_size, self.config.channels)

    @torch.inference_mode()
    def _probabilities(self, images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float64]]:
        logits = [
            _logits(self._network, batch.to(self._device), self.config).cpu()
            for batch in torch.split(torch.from_numpy(np.stack(images)), _BATCH_SIZE)
        ]
        return list(softmax(torch.cat(logits).numpy()))


def _logits(network: nn.Module, images: torch.Tensor, config: ModelConfig) -> torch.Tensor:
    """float32 logits (n, classes) of a network made by `fused_for_inference`."""
    logits: torch.Tensor = network(prepare(images, config).to(dtype_of(network)))
    return logits.float()
