"""Which training samples the network gets right for the wrong reason: by their surroundings.

A sample that is answered rightly as it is, and wrongly with another image's surroundings, may show a marker
that no misprediction shows. Surroundings are what was painted or proposed as irrelevant; where that is known
of less than half of the samples, everything but the middle of an image. Some of the samples are looked at:
a round asks few of them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from imil_backend.learning.child.context import Context
from imil_backend.learning.child.state.learner import Learner
from imil_backend.learning.inference.prediction import predict_split
from imil_backend.learning.inference.shortcuts import draw_once
from imil_backend.learning.inputs.data import SampleSet
from imil_backend.learning.inputs.exchange import Masks, soften
from imil_backend.learning.networks.network import before_classifier

_MIDDLE = 0.7  # of an image's side: what is not surroundings where nothing is known
_FEWEST, _SHARE = 256, 8  # samples that are looked at: so many, or one in so many if that is more
_MOST_VARIED = 1000  # samples that are put in order by variety; no round asks so many


def ask_surroundings(context: Context, learner: Learner) -> NDArray[np.int64]:
    """Ask the trained network about training samples as they are, and with exchanged surroundings.

    In every process; two predictions for each that is looked at.

    Returns:
        (samples,) of those whose answer changes from right to wrong a place `by_variety`; -1 of the others.
    """
    samples = _with_surroundings(context.dataset.originals["train"], context.recipe.image_size)
    drawn = draw_once(samples, context.recipe.seed, max(_FEWEST, len(samples) // _SHARE))
    looked_at = samples.select(drawn.indices)
    context.reporter.begin("mining", 2 * len(looked_at))
    trunk, head = before_classifier(learner.whole, learner.config.backbone)
    asked = (learner.config, context.runtime, context.reporter.advance, 4 * context.micro_batch_size)
    features = predict_split(trunk, looked_at, *asked, outputs=head.in_features)
    with torch.inference_mode():
        own = head(torch.from_numpy(features).to(context.runtime.device)).cpu().numpy()
    exchanged = predict_split(learner.whole, samples, *asked, drawn=drawn)
    changes = own.argmax(axis=1) == looked_at.labels
    changes &= exchanged.argmax(axis=1) != looked_at.labels
    variety = np.full(len(samples), -1, np.int64)
    variety[drawn.indices[changes]] = by_variety(features[changes])
    return variety


def by_variety(features: NDArray[np.float32], most: int = _MOST_VARIED) -> NDArray[np.int64]:
    """A place for each sample: after any number of them, the next one is the farthest from all before it.

    Farthest-first traversal (Gonzalez 1985; as "k-center greedy" in Sener and Savarese 2018).

    Args:
        features: (n, channels).
        most: samples that get a place so; the rest follow in their order.

    Returns:
        (n,) 0 for the first, the one nearest to the mean.
    """
    places = np.full(len(features), -1, np.int64)
    if not len(features):
        return places
    following = int(np.square(features - features.mean(axis=0)).sum(axis=1).argmin())
    nearest = np.full(len(features), np.inf, np.float32)
    for place in range(min(most, len(features))):
        places[following] = place
        nearest = np.minimum(nearest, np.square(features - features[following]).sum(axis=1))
        nearest[places >= 0] = -1
        following = int(nearest.argmax())
    rest = np.flatnonzero(places < 0)
    places[rest] = len(features) - len(rest) + np.arange(len(rest))
    return places


def _with_surroundings(samples: SampleSet, size: int) -> SampleSet:
    if samples.masks is not None and 2 * len(samples.masks.known) >= len(samples):
        return samples
    edge = round(size * (1 - _MIDDLE) / 2)
    surroundings = np.ones((size, size), bool)
    surroundings[edge : size - edge, edge : size - edge] = False
    everyone = np.zeros(len(samples), np.int64)
    return replace(samples, masks=Masks(soften(surroundings, size)[None], everyone, everyone == 0))
