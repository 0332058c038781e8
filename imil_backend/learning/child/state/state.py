"""Where a training is, as it is kept in its checkpoint after every epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from imil_backend.errors import WeightsError
from imil_backend.learning.child.state.checkpoint import random_state, restore_random_state
from imil_backend.learning.child.state.learner import Learner
from imil_backend.learning.contract.backbones import DEFAULT_BACKBONE
from imil_backend.learning.networks.network import load_tensors


@dataclass
class TrainingState:
    """What a training has found out so far, beside the network and its optimizer."""

    samples: str  # digest of the training split's keys
    epoch: int = 0  # finished
    first_epoch: int = 0  # finished when this training began: above 0 where it went on from another one
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)  # one entry an epoch of this training
    margins: list[NDArray[np.float32]] = field(default_factory=list)  # (samples,) for each of them
    mined: NDArray[np.float32] | None = None  # logits (samples, classes) at the mining epoch
    validated: NDArray[np.float32] | None = None  # logits of the validation split at the best epoch

    def best_epoch(self, after: int) -> int | None:
        """The epoch of highest balanced accuracy on the validation split, of those after epoch `after`.

        With counterexamples the mean of that on unchanged images and on images whose irrelevant part is
        exchanged: where the split carries a shortcut, the former alone prefers whoever goes by it. Between
        equals the one of lower loss, then the earlier one. None while there is none.
        """
        eligible = [entry for entry in self.history if entry["epoch"] > after]
        if not eligible:
            return None
        best = max(eligible, key=_merit)
        return int(best["epoch"])

    def to_dict(self, learner: Learner) -> dict[str, Any]:
        """Tensors and plain values for `save_state`."""
        return {
            "network": learner.network.state_dict(),
            "optimizer": learner.optimizer.state_dict(),
            "random": random_state(),
            "config": asdict(learner.config),
            "training": {
                **vars(self),
                "margins": [torch.from_numpy(values) for values in self.margins],
                "mined": None if self.mined is None else torch.from_numpy(self.mined),
                "validated": None if self.validated is None else torch.from_numpy(self.validated),
            },
        }


def of_whole_network(saved: dict[str, Any], learner: Learner) -> dict[str, Any]:
    """What `to_dict` took of the last layers, as if all had been trained, for other trainings to go on from.

    The layers before are as they are, and have no momentum.
    """
    if learner.network is learner.whole:
        return saved
    names = [name for name, _ in learner.whole.named_parameters()]
    before = len(names) - len(list(learner.network.parameters()))  # the trained ones are the last
    optimizer = saved["optimizer"]
    moments = {number + before: moment for number, moment in optimizer["state"].items()}
    groups = [{**group, "params": list(range(len(names)))} for group in optimizer["param_groups"]]
    return {
        **saved,
        "network": learner.whole.state_dict(),
        "optimizer": {**optimizer, "state": moments, "param_groups": groups},
    }


def digest_keys(keys: Sequence[str]) -> str:
    """A digest by which a checkpoint tells whether the training split is still the same."""
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()


def state_from_dict(raw: dict[str, Any]) -> TrainingState:
    """The inverse of `to_dict`, without network and optimizer."""
    training = dict(raw["training"])
    training["margins"] = [values.numpy() for values in training["margins"]]
    for name in ("mined", "validated"):
        training[name] = None if training[name] is None else training[name].numpy()
    return TrainingState(**training)


def restore_learner(learner: Learner, raw: dict[str, Any], path: Path) -> None:
    """Give network, optimizer and random number generators the state that `to_dict` took.

    Raises:
        WeightsError: it is of another network, image size or other classes.
    """
    ours = asdict(learner.config)
    theirs = {"backbone": DEFAULT_BACKBONE, **raw["config"]}  # older ones do not say it
    for name in ("classes", "image_size", "channels", "variant", "backbone"):
        if ours[name] != theirs[name]:
            raise WeightsError(
                f"{path} was trained with {name} {theirs[name]}, not {ours[name]}: train a new "
                "baseline, `imil train --fresh`."
            )
    load_tensors(learner.network, raw["network"], path, learner.config.backbone)
    learner.optimizer.load_state_dict(raw["optimizer"])
    restore_random_state(raw["random"])


def _merit(entry: dict[str, Any]) -> tuple[float, float]:
    looks = [look for look in (entry["validation"], entry.get("exchanged")) if look is not None]
    merit = sum(look["balanced_accuracy"] for look in looks) / len(looks)
    return merit, -entry["validation"]["loss"]
