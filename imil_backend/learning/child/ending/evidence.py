"""Class evidence at the end of a training: of the images as they are, nothing blacked out or exchanged."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imil_backend.learning.child.context import Context
from imil_backend.learning.child.state.kept import kept_array
from imil_backend.learning.child.state.learner import Learner
from imil_backend.learning.contract.evidence import Evidence
from imil_backend.learning.contract.training_job import SPLITS, Split
from imil_backend.learning.inference.evidence import cells_of, predict_with_evidence
from imil_backend.learning.inputs.data import SampleSet
from imil_backend.learning.scoring.metrics import softmax

Outputs = NDArray[np.float32]  # as of `predict_with_evidence`


def ask_with_evidence(context: Context, learner: Learner) -> dict[Split, Outputs]:
    """Ask the trained network about all splits, in every process.

    Where the last layers alone are trained, for speed, of the training split about those samples alone that
    clinicians have been asked about.
    """
    asked = {split: _samples(context, split) for split in SPLITS}
    context.reporter.begin("evaluating", sum(map(len, asked.values())))
    return {
        split: kept_array(
            context,
            f"evidence-{split}",
            lambda samples=samples: predict_with_evidence(  # type: ignore[misc]
                learner.whole,
                samples,
                learner.config,
                context.runtime,
                context.reporter.advance,
                4 * context.micro_batch_size,
            ),
        )
        for split, samples in asked.items()
    }


def evidence_of(context: Context, learner: Learner, outputs: dict[Split, Outputs]) -> dict[str, Evidence]:
    """What the file of class evidence holds."""
    classes, side = len(learner.config.classes), cells_of(learner.config)
    found: dict[str, Evidence] = {}
    for split, values in outputs.items():
        samples = _samples(context, split)
        maps = values[:, classes:].reshape(len(samples), 2, side, side).astype(np.float16)
        probabilities = softmax(values[:, :classes]).astype(np.float32)
        found[split] = Evidence(samples.keys, samples.labels, probabilities, maps[:, 0], maps[:, 1])
    return found


def _samples(context: Context, split: Split) -> SampleSet:
    samples = context.dataset.originals[split]
    if split != "train" or context.recipe.trainable == "all":
        return samples
    assert samples.confirmed is not None  # noqa: S101  # loaded splits have it
    return samples.select(np.flatnonzero(samples.confirmed))
