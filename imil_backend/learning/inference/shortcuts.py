"""The shortcut test: what a network answers when what is irrelevant is exchanged between images.

As counterexamples exchange it (`inputs/exchange.py`), with the donor's own marker. What the answers mean is
in `scoring/robustness.py`. Every network that is asked with the same draws sees the same images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from imil_backend.learning.inference.prediction import predict_batches
from imil_backend.learning.inputs.data import Advance, SampleSet
from imil_backend.learning.inputs.exchange import draw_donors
from imil_backend.learning.networks.network import ModelConfig
from imil_backend.learning.networks.runtime import Runtime

DRAWS = 10  # with donors of the same class, and of any class


@dataclass(frozen=True)
class Exchanges:
    """Which samples are tested, and with whose irrelevant parts."""

    tested: NDArray[np.int64]  # (samples,) indices into the split
    takers: NDArray[
        np.int64
    ]  # (images,) indices into the split: each image is asked once, however often drawn
    donors: NDArray[np.int64]  # (images,)
    same_class: NDArray[np.int64]  # (draws, samples) indices into the images
    any_class: NDArray[np.int64]  # (draws, samples)


def draw_exchanges(samples: SampleSet, seed: int, draws: int = DRAWS) -> Exchanges:
    """Draw donors from the samples whose irrelevant part is known.

    A draw of any class that comes upon the sample's own is one of the same class as well: with two classes
    that is a quarter of the work less, and the drop varies less by chance.

    Args:
        samples: a split with masks; those without a known irrelevant part take no part, nor those of a class
            of which only one is known.
        seed: of the draws.
        draws: for each sample.

    Returns:
        No samples where fewer than two classes are left: nothing could be exchanged between them.
    """
    known = np.zeros(0, np.int64) if samples.masks is None else samples.masks.known
    labels = samples.labels
    classes, counts = np.unique(labels[known], return_counts=True)
    tested = known[np.isin(labels[known], classes[counts > 1])]
    if (counts > 1).sum() < 2:
        tested = tested[:0]
    random = np.random.default_rng(seed)
    takers = np.tile(tested, draws)
    any_class = draw_donors(labels, takers, tested, random)
    same_class = draw_donors(labels, takers, tested, random, same_class=True)
    same_class = np.where(labels[any_class] == labels[takers], any_class, same_class)
    pairs, places = np.unique(
        np.concatenate([takers, takers]) * len(samples) + np.concatenate([same_class, any_class]),
        return_inverse=True,
    )
    same, other = places.reshape(2, draws, len(tested))
    return Exchanges(tested, pairs // len(samples), pairs % len(samples), same, other)


def predict_exchanged(
    network: nn.Module,
    samples: SampleSet,
    exchanges: Exchanges,
    config: ModelConfig,
    runtime: Runtime,
    advance: Advance,
    batch_size: int,
) -> NDArray[np.float32]:
    """Logits (images, classes) of the exchanges' images, in every process; each computes some batches."""

    def fetch(pieces: Sequence[slice]) -> Iterator[torch.Tensor]:
        for piece in pieces:
            yield samples.exchanged(exchanges.takers[piece], exchanges.donors[piece], runtime.device)

    return predict_batches(
        network, len(exchanges.takers), fetch, config, runtime, advance, batch_size=batch_size
    )


def shares_right(
    exchanges: Exchanges, logits: NDArray[np.float32], labels: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How often each tested sample was answered rightly, (samples,) with donors of the same, of any class.

    Args:
        exchanges: that were asked.
        logits: (images, classes) of them.
        labels: of the whole split.
    """
    right = logits.argmax(axis=1) == labels[exchanges.takers]
    same, other = right[exchanges.same_class].mean(axis=0), right[exchanges.any_class].mean(axis=0)
    return np.asarray(same, np.float64), np.asarray(other, np.float64)
