"""What trained networks make of images before their classifier, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imil_backend.errors import TrainingFailedError
from imil_backend.learning.contract.training_job import EMBEDDED_FILE, EXCHANGED_FILE
from imil_backend.learning.scoring.robustness import shares_right

Arrays = Mapping[str, NDArray[Any]]
_PROCESSES = "imil_backend.learning.inference"


@dataclass(frozen=True)
class LastLayer:
    """A classifier of features."""

    weight: NDArray[np.floating[Any]]  # (classes, channels)
    bias: NDArray[np.floating[Any]]  # (classes,)

    @classmethod
    def of(cls, arrays: Arrays) -> LastLayer:
        """The one that the network was trained with."""
        return cls(arrays["weight"], arrays["bias"])


def embedded(directory: Path, environment: Mapping[str, str]) -> Arrays:
    """All splits of a finished training, as `inference/embedding.py` writes them.

    Args:
        directory: of the training.
        environment: of that process, as of `child_environment`.

    Raises:
        TrainingFailedError: it failed; the message has its last line.
    """
    return _computed(directory / EMBEDDED_FILE, "embedding", [directory], environment)


def exchanged(directory: Path, tested: Path, environment: Mapping[str, str]) -> Arrays:
    """Test images whose irrelevant part is exchanged, as `inference/exchanged.py` writes them.

    Args:
        directory: of the training.
        tested: directory of a job whose test split has masks, and of whose other samples parts are taken.
        environment: of that process, as of `child_environment`.

    Raises:
        TrainingFailedError: it failed; the message has its last line.
    """
    return _computed(directory / EXCHANGED_FILE, "exchanged", [directory, tested], environment)


def exchanged_shares(arrays: Arrays, layer: LastLayer) -> dict[str, tuple[float, float]]:
    """The shares of draws, 0..1, that are answered rightly, as of `Predictions.exchanged`.

    Args:
        arrays: as of `exchanged`.
        layer: that answers.

    Returns:
        Nothing where no sample was tested.
    """
    logits = arrays["features"] @ layer.weight.T + layer.bias
    right = logits.argmax(axis=1) == arrays["labels"]
    same, other = shares_right(right, arrays["same_class"], arrays["any_class"])
    return dict(zip(arrays["keys"].tolist(), zip(same.tolist(), other.tolist(), strict=True), strict=True))


def _computed(path: Path, process: str, directories: list[Path], environment: Mapping[str, str]) -> Arrays:
    """The arrays of a file; it is written if it is not there."""
    if not path.exists():
        command = [sys.executable, "-m", f"{_PROCESSES}.{process}", *map(str, directories)]
        done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason"])[-1]
            raise TrainingFailedError(f"{path} could not be computed: {last}")
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
