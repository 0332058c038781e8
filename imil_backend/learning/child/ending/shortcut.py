"""The shortcut test at the end of a training: of its version, and of its parent on the same images."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from imil_backend.errors import WeightsError
from imil_backend.learning.child.context import Context
from imil_backend.learning.child.state.kept import kept_array
from imil_backend.learning.child.state.learner import Learner
from imil_backend.learning.inference.prediction import predict_split
from imil_backend.learning.inference.shortcuts import (
    Exchanges,
    count_draws,
    draw_exchanges,
)
from imil_backend.learning.inputs.data import SampleSet
from imil_backend.learning.networks.network import ModelConfig, load_model
from imil_backend.learning.scoring.robustness import robustness_of, shares_right

Asked = Callable[[nn.Module, ModelConfig], NDArray[np.float32]]
UNTESTED = (
    "The shortcut test needs at least two classes with two validation samples each whose irrelevant "
    "part is known."
)

logger = logging.getLogger(__name__)


def shortcut_test(context: Context, learner: Learner) -> dict[str, Any] | None:
    """What `shortcut.json` holds; None where nothing is known of what is irrelevant. In every process.

    On the validation split's pixels, whatever is trained on.

    Args:
        context: of the job.
        learner: with the weights that are tested.

    Returns:
        untested: why the test could not be made, or None; draws, seed; left_out: samples that took no part;
        keys, groups and labels of those that did; seconds, of this attempt. For `candidate` and `parent`:
        name, the share of draws answered rightly by each sample with donors of the same_class and of
        any_class, and `summary` (see `Robustness`). `parent` is None where there is none, or where it could
        not be asked: parent_untested says why.
    """
    samples = context.dataset.originals["validation"]
    if samples.masks is None:
        return None
    began = time.monotonic()
    draws = count_draws(len(samples))
    exchanges = draw_exchanges(samples, context.recipe.seed, draws)
    about = {"draws": draws, "seed": context.recipe.seed, "left_out": len(samples) - len(exchanges.tested)}
    if not len(exchanges.tested):
        logger.warning(UNTESTED)
        return {"untested": UNTESTED, **about}
    models = 1 if context.job.parent_model is None else 2
    context.reporter.begin("shortcut test", models * len(exchanges.images.indices))

    def ask(network: nn.Module, config: ModelConfig) -> NDArray[np.float32]:
        return predict_split(
            network,
            samples,
            config,
            context.runtime,
            context.reporter.advance,
            batch_size=4 * context.micro_batch_size,
            drawn=exchanges.images,
        )

    candidate = kept_array(context, "shortcut", lambda: ask(learner.whole, learner.config))
    parent, parent_untested = _ask_parent(context, learner.config, ask)
    tested = samples.select(exchanges.tested)
    return {
        "untested": None,
        **about,
        "keys": tested.keys,
        "groups": tested.groups,
        "labels": tested.labels.tolist(),
        "candidate": _shares(context.job.name, exchanges, samples, candidate),
        "parent": None if parent is None else _shares(context.job.parent, exchanges, samples, parent),
        "parent_untested": parent_untested,
        "seconds": time.monotonic() - began,
    }


def _ask_parent(
    context: Context, config: ModelConfig, ask: Asked
) -> tuple[NDArray[np.float32] | None, str | None]:
    """The parent's logits; or None, and why if there is a parent. A training is not lost for that."""
    if context.job.parent_model is None:
        return None, None
    path = Path(context.job.parent_model)

    def load_and_ask() -> NDArray[np.float32]:
        network, own = load_model(path)
        for name in ("classes", "image_size", "channels"):
            ours, theirs = getattr(config, name), getattr(own, name)
            if ours != theirs:
                raise WeightsError(f"{path} has {name} {theirs}, and this training {ours}.")
        return ask(network, own)

    try:
        return kept_array(context, "shortcut-parent", load_and_ask), None
    except WeightsError as error:
        logger.warning("The parent is not tested for shortcuts: %s", error)
        return None, str(error)


def _shares(
    name: str | None, exchanges: Exchanges, samples: SampleSet, logits: NDArray[np.float32]
) -> dict[str, Any]:
    right = logits.argmax(axis=1) == samples.labels[exchanges.images.indices]
    same_class, any_class = shares_right(right, exchanges.same_class, exchanges.any_class)
    groups = samples.select(exchanges.tested).groups
    return {
        "name": name,
        "same_class": same_class.tolist(),
        "any_class": any_class.tolist(),
        "summary": asdict(robustness_of(same_class, any_class, groups)),
    }
