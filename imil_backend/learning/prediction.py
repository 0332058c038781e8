"""Predictions of a network: for a split while training, and for images that come one by one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from imil_backend.learning.augmentation import prepare
from imil_backend.learning.data import SampleSet
from imil_backend.learning.epoch import Advance
from imil_backend.learning.evaluation import softmax
from imil_backend.learning.job import MODEL_FILE
from imil_backend.learning.network import ModelConfig, load_model
from imil_backend.learning.runtime import Runtime, choose_device, choose_precision

_BATCH_SIZE = 32


def predict_split(
    network: nn.Module,
    samples: SampleSet,
    config: ModelConfig,
    runtime: Runtime,
    advance: Advance,
    batch_size: int = _BATCH_SIZE,
) -> NDArray[np.float32]:
    """Logits (samples, classes) without augmentation, in every process; each computes some batches."""
    network.eval()
    logits = torch.zeros(len(samples), len(config.classes), device=runtime.device)
    starts = range(0, len(samples), batch_size)
    with torch.inference_mode():
        for start in starts[runtime.rank :: runtime.processes]:
            images = samples.images(slice(start, start + batch_size), runtime.device)
            logits[start : start + batch_size] = _logits(network, images, config, runtime)
            advance(len(images) * runtime.processes)
        return runtime.sum(logits).cpu().numpy()


class Predictor:
    """A model version that answers; made once, used for many images."""

    def __init__(self, model_dir: Path, device: str = "auto") -> None:
        """Load the model of a job directory.

        Raises:
            WeightsError: it is missing or damaged.
            SettingsError: the device is not there.
        """
        target = choose_device(device)
        self._runtime = Runtime(target, choose_precision("auto", target))
        network, self.config = load_model(model_dir / MODEL_FILE)
        self._network = network.to(target).to(memory_format=torch.channels_last)

    def predict(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """Probabilities (images, classes) of uint8 images, (height, width) or (height, width, 3)."""
        results: list[NDArray[np.float64]] = [np.empty((0, len(self.config.classes)))]
        for start in range(0, len(images), _BATCH_SIZE):
            squashed = [self._squash(image) for image in images[start : start + _BATCH_SIZE]]
            batch = torch.from_numpy(np.stack(squashed)).to(self._runtime.device)
            with torch.inference_mode():
                logits = _logits(self._network, batch, self.config, self._runtime)
            results.append(softmax(logits.cpu().numpy()))
        return np.concatenate(results)

    def _squash(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """As the pixel cache does: uint8 (size, size, channels)."""
        picture = Image.fromarray(image)
        if self.config.channels == 1 and image.ndim == 3:
            picture = picture.convert("L")
        size = self.config.image_size
        resized = np.atleast_3d(np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR)))
        return np.ascontiguousarray(np.broadcast_to(resized, (size, size, self.config.channels)))


def _logits(network: nn.Module, images: torch.Tensor, config: ModelConfig, runtime: Runtime) -> torch.Tensor:
    with runtime.autocast():
        logits: torch.Tensor = network(prepare(images, config))
    return logits.float()
