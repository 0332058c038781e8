"""The shortcut test: what a network answers when what is irrelevant is exchanged between images.

As counterexamples exchange it (`inputs/exchange.py`), with the donor's own marker. What the answers mean is
in `scoring/robustness.py`. Every network that is asked with the same draws sees the same images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imil_backend.learning.inputs.data import Draw, SampleSet
from imil_backend.learning.inputs.exchange import NOBODY, draw_donors

# Draws of each sample with donors of the same class, and of any class. About 500 images of either kind are
# enough: what more draws add is little beside what the number of samples leaves uncertain.
MOST_DRAWS = 10
_IMAGES = 500
# Samples that are drawn once, after each epoch: a choice between epochs needs no more.
MOST_ONCE = 256


@dataclass(frozen=True)
class Exchanges:
    """Which samples are tested, and with whose irrelevant parts."""

    tested: NDArray[np.int64]  # (samples,) indices into the split
    images: Draw  # each is asked once, however often it was drawn
    same_class: NDArray[np.int64]  # (draws, samples) indices into the images
    any_class: NDArray[np.int64]  # (draws, samples)


def count_draws(samples: int) -> int:
    """How often each of so many samples is drawn, with donors of either kind."""
    return min(MOST_DRAWS, max(1, _IMAGES // max(samples, 1)))


def draw_once(samples: SampleSet, seed: int, most: int = MOST_ONCE) -> Draw:
    """Samples whose irrelevant part is known, each once, with that of another sample of any class.

    Args:
        samples: with masks; or, where features are cached, with one other view that was drawn so.
        seed: of the draws.
        most: samples, drawn by chance if more are known.

    Returns:
        No samples where nothing can be exchanged, see `draw_exchanges`.
    """
    if samples.views is not None:
        indices = np.flatnonzero(samples.views[0] != NOBODY)
        return Draw(indices, np.zeros(len(indices), np.int64))
    exchanges = draw_exchanges(samples, seed, draws=1)
    asked = exchanges.any_class[0]
    if len(asked) > most:
        asked = asked[np.sort(np.random.default_rng(seed).permutation(len(asked))[:most])]
    return Draw(exchanges.images.indices[asked], exchanges.images.views[asked])


def draw_exchanges(
    samples: SampleSet, seed: int, draws: int, takers: NDArray[np.bool_] | None = None
) -> Exchanges:
    """Draw donors from the samples whose irrelevant part is known.

    A draw of any class that comes upon the sample's own is one of the same class as well: with two classes
    that is a quarter of the work less, and the drop varies less by chance.

    Args:
        samples: with masks; those without a known irrelevant part take no part, nor those of a class of
            which there is no donor.
        seed: of the draws.
        draws: for each sample.
        takers: (samples,) those that are tested; the others are their donors. None: all are both.

    Returns:
        No samples where fewer than two classes are left: nothing could be exchanged between them.
    """
    known = np.zeros(0, np.int64) if samples.masks is None else samples.masks.known
    labels = samples.labels
    donors, least = (known, 2) if takers is None else (known[~takers[known]], 1)  # nobody is its own donor
    classes, counts = np.unique(labels[donors], return_counts=True)
    classes = classes[counts >= least]
    donors = donors[np.isin(labels[donors], classes)]
    tested = donors if takers is None else known[takers[known] & np.isin(labels[known], classes)]
    if len(classes) < 2:
        tested = tested[:0]
    random = np.random.default_rng(seed)
    asked = np.tile(tested, draws)
    any_class = draw_donors(labels, asked, donors, random)
    same_class = draw_donors(labels, asked, donors, random, same_class=True)
    same_class = np.where(labels[any_class] == labels[asked], any_class, same_class)
    pairs, places = np.unique(
        np.concatenate([asked, asked]) * len(samples) + np.concatenate([same_class, any_class]),
        return_inverse=True,
    )
    same, other = places.reshape(2, draws, len(tested))
    return Exchanges(tested, Draw(pairs // len(samples), pairs % len(samples)), same, other)
