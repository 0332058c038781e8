"""A trained version in Python."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imil_backend.images.reading import read_image
from imil_backend.learning.contract.training_job import MODEL_FILE
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.versions.removed_weights import check_weights_kept
from imil_backend.loop.versions.version_export import VersionFormat, export_version
from imil_backend.store import tables

if TYPE_CHECKING:
    from torch import nn

    from imil_backend.learning.inference.prediction import Predictor
    from imil_backend.learning.networks.network import ModelConfig


class Version:
    """A trained version; `Imil.version` gives one.

    Attributes:
        name: of the version.
        directory: of its files, which are never changed.
        metrics: by split, "validation" and "test".
    """

    def __init__(self, backend: Backend, row: tables.Version) -> None:
        self._backend, self._row = backend, row
        self.name: str = row.name
        self.directory = Path(row.directory)
        self.metrics: dict[str, Any] = row.metrics

    def __repr__(self) -> str:
        return f"Version({self.name!r})"

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, in the order of `predict`'s columns."""
        return self._predictor.config.classes

    def predict(self, images: Iterable[Path | str | NDArray[np.uint8]]) -> NDArray[np.float64]:
        """The probabilities of the classes for each image.

        Args:
            images: files (PNG, JPEG, TIFF, BMP, DICOM), or pixels as `Imil.read_image` gives them: uint8,
                (height, width) or (height, width, 3). They are resized to the network's size here.

        Returns:
            Probabilities, (images, classes), in the order of `classes`.

        Raises:
            ImageError: a file cannot be read.
            StoreError: the version's weights were removed (`imil gc`).
            WeightsError: the version's files are missing or damaged.
        """
        return self._predictor.predict([self._predictor.squash(self._pixels(image)) for image in images])

    def network(self) -> tuple[nn.Module, ModelConfig]:
        """The network as a torchvision module, on the CPU and in evaluation mode, and its configuration.

        It is a plain `torchvision.models.ResNet` with the strides of its variant set.

        Returns:
            The network and its configuration: `classes`, `image_size`, `channels`, `mean`, `std`, `variant`.

        Raises:
            StoreError: the version's weights were removed (`imil gc`).
            WeightsError: the version's files are missing or damaged.
        """
        from imil_backend.learning.networks.network import load_model

        self._check_weights_kept()
        return load_model(self.directory / MODEL_FILE)

    def export(self, directory: Path | str, form: VersionFormat) -> Path:
        """Write the version for other programs, as `imil export --format` does.

        Args:
            directory: output directory; created if missing.
            form: "onnx", checked against torch; or "torchvision", a state dict as safetensors with its
                configuration beside it.

        Returns:
            The file.

        Raises:
            SettingsError: the packages for ONNX are not installed.
            StoreError: the weights were removed or have changed since they were trained, or the directory
                cannot be written.
            WeightsError: torchvision's resnet50 is not the network of this version (it is v1), or ONNX
                Runtime and torch disagree.
        """
        self._check_weights_kept()
        return export_version(self._row, Path(directory), form)

    @cached_property
    def _predictor(self) -> Predictor:
        from imil_backend.learning.inference.prediction import Predictor

        self._check_weights_kept()
        return Predictor(self.directory, self._backend.settings.device, self._backend.cache)

    def _check_weights_kept(self) -> None:
        with self._backend.store.begin() as session:
            check_weights_kept(session, self._row)

    def _pixels(self, image: Path | str | NDArray[np.uint8]) -> NDArray[np.uint8]:
        if isinstance(image, np.ndarray):
            return image
        return read_image(
            Path(image),
            max_bytes=self._backend.settings.max_image_bytes,
            max_pixels=self._backend.settings.max_image_pixels,
            draft_size=2 * self._predictor.config.image_size,  # as the pixel cache reads it
        )
