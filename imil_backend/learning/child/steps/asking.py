"""Predictions of the trained network on a split."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imil_backend.learning.child.context import Context
from imil_backend.learning.child.state.learner import Learner
from imil_backend.learning.contract.training_job import Split
from imil_backend.learning.inference.prediction import predict_split
from imil_backend.learning.inference.shortcuts import draw_once
from imil_backend.learning.inputs.data import Draw
from imil_backend.learning.scoring.metrics import Metrics, compute_metrics, softmax


def ask(context: Context, learner: Learner, split: Split, drawn: Draw | None = None) -> NDArray[np.float32]:
    """Logits (samples, classes) of a split, or of what was drawn from it, in every process."""
    return predict_split(
        learner.network,
        context.split(split),
        learner.config,
        context.runtime,
        context.reporter.advance,
        batch_size=4 * context.micro_batch_size,
        drawn=drawn,
    )


def ask_exchanged(context: Context, learner: Learner) -> Metrics | None:
    """Of the validation split with the irrelevant part of other images; None where none is known."""
    validation = context.split("validation")
    drawn = draw_once(validation, context.recipe.seed)
    if not len(drawn.indices):
        return None
    logits = ask(context, learner, "validation", drawn)
    return compute_metrics(softmax(logits), validation.labels[drawn.indices])
