"""Which samples an epoch visits, in which order and in which pieces. Pure numpy, from (seed, epoch) alone.

Nothing here knows how many processes there are: they all draw the same plan, and each computes some of its
micro-batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from imil_backend.errors import DatasetError
from imil_backend.learning.contract.augmentations import AUGMENTATIONS
from imil_backend.learning.contract.training_job import Recipe
from imil_backend.learning.inputs.data import SampleSet
from imil_backend.learning.inputs.exchange import NOBODY, draw_donors

# Streams of random numbers that do not shift each other.
_ORDER, _AUGMENTATION, _STATISTICS, _VIEWS, _WEIGHT, _PUBLISHED = range(6)
PARAMETERS = 6  # rotation, scale, shift in x and y, brightness, contrast


@dataclass(frozen=True)
class EpochPlan:
    """One epoch: the sample at each position, and the positions of each micro-batch of each batch."""

    order: NDArray[np.int64]  # (positions,) indices of samples, each at least once where none weighs more
    batches: tuple[tuple[slice, ...], ...]
    augmentation: NDArray[np.float32] | None  # (positions, PARAMETERS), uniform in [-1, 1)
    seeds: NDArray[np.int64] | None = None  # (positions,) of the published augmentation, if there is one

    def per_sample(self, values: NDArray[np.float32], samples: int) -> NDArray[np.float32]:
        """Values at positions as one value a sample, their mean where a sample was visited repeatedly.

        NaN where it was not visited.
        """
        totals = np.bincount(self.order, weights=values, minlength=samples)
        visits = np.bincount(self.order, minlength=samples)
        return np.where(visits, totals / np.maximum(visits, 1), np.nan).astype(np.float32)


def plan_epoch(
    labels: NDArray[np.int64],
    recipe: Recipe,
    epoch: int,
    micro_batches: int,
    confirmed: NDArray[np.bool_] | None = None,
) -> EpochPlan:
    """Plan epoch number `epoch` over samples with these labels.

    Args:
        labels: (samples,) class indices.
        recipe: its seed, batch size, balance, weight and augmentation are used.
        epoch: 1-based.
        micro_batches: how many pieces a batch is cut into; fewer where a piece would hold a single image.
        confirmed: (samples,) those that are drawn more often, in the place of others (Liu et al. 2021, Just
            Train Twice; here clinicians have let their labels stand).
    """
    visits: NDArray[np.int64] = np.arange(len(labels))
    if recipe.balance == "sampling":
        visits = np.concatenate([visits, _repeats(labels, recipe.seed, epoch)])
    if recipe.confirmed_weight > 1 and confirmed is not None and confirmed.any():
        weights = np.where(confirmed[visits], float(recipe.confirmed_weight), 1.0)
        visits = _resampled(visits, weights, np.random.default_rng([recipe.seed, epoch, _WEIGHT]))
    order = np.random.default_rng([recipe.seed, epoch, _ORDER]).permutation(visits)
    batches = _cut(len(order), recipe.batch_size, micro_batches)
    return EpochPlan(order, batches, *draw_augmentation(len(order), recipe, epoch))


def draw_augmentation(
    positions: int, recipe: Recipe, epoch: int
) -> tuple[NDArray[np.float32] | None, NDArray[np.int64] | None]:
    """Parameters and seeds of the recipe's augmentation, as of `EpochPlan`."""
    if recipe.augmentation == "none":
        return None, None
    random = np.random.default_rng([recipe.seed, epoch, _AUGMENTATION])
    parameters = random.uniform(-1, 1, (positions, PARAMETERS)).astype(np.float32)
    if AUGMENTATIONS[recipe.augmentation] is None:
        return parameters, None
    return parameters, np.random.default_rng([recipe.seed, epoch, _PUBLISHED]).integers(2**31, size=positions)


def draw_views(samples: SampleSet, order: NDArray[np.int64], recipe: Recipe, epoch: int) -> NDArray[np.int64]:
    """What is shown of the sample at each position of an epoch, as of `Draw.views`.

    Args:
        samples: those that are drawn.
        order: (positions,) indices of samples.
        recipe: its seed, and the share of draws that show another view.
        epoch: 1-based.
    """
    random = np.random.default_rng([recipe.seed, epoch, _VIEWS])
    if samples.drawn and samples.views is not None:
        return random.integers(len(samples.views), size=len(order))
    chosen = random.random(len(order)) < recipe.correction_share
    if samples.views is not None:
        views = random.integers(len(samples.views), size=len(order))
        return np.where(chosen & (samples.views[views, order] >= 0), views, NOBODY)
    donors = np.full(len(order), NOBODY, np.int64)
    if samples.masks is not None:
        known, outside = samples.masks.known, samples.masks.outside
        taking = chosen & np.isin(order, known)
        # A donor gives what is irrelevant in it, or, to one whose own region alone is exchanged, anything.
        for kind, givers in ((False, known[~outside[known]]), (True, np.arange(len(samples)))):
            places = np.flatnonzero(taking & (outside[order] == kind))
            donors[places] = draw_donors(samples.labels, order[places], givers, random)
    return donors


def draw_micro_batches(samples: int, size: int, most: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """At most `most` micro-batches of about `size` samples, all different; all samples if they are few."""
    order = np.random.default_rng([seed, epoch, _STATISTICS]).permutation(samples)
    pieces = min(most, max(1, samples // size))
    return np.array_split(order[: most * size], pieces)


def count_visits(labels: NDArray[np.int64], recipe: Recipe) -> int:
    """How many images an epoch visits; balanced sampling visits those of rarer classes repeatedly."""
    counts = np.bincount(labels)
    return int(counts.max() * np.count_nonzero(counts)) if recipe.balance == "sampling" else len(labels)


def count_micro_batches(recipe: Recipe, micro_batch_size: int, processes: int) -> int:
    """Into how many micro-batches a batch is cut: the recipe's number, or one a process."""
    return max(-(-recipe.batch_size // micro_batch_size), processes)


def check_processes(plan: EpochPlan, processes: int) -> None:
    """Refuse more processes than some batch has micro-batches.

    Raises:
        DatasetError: says how many processes are possible.
    """
    most = min(len(batch) for batch in plan.batches)
    if processes > most:
        raise DatasetError(
            f"{len(plan.order)} training images in {len(plan.batches)} batches keep only {most} "
            f"processes busy; {processes} were started. Use fewer processes, or a larger batch_size."
        )


def class_weights(labels: NDArray[np.int64], classes: int) -> NDArray[np.float32]:
    """Weights (classes,) under which each class counts the same in the loss and the mean weight is 1."""
    counts = np.bincount(labels, minlength=classes)
    return (len(labels) / (classes * counts)).astype(np.float32)


def _repeats(labels: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.int64]:
    """Samples of the rarer classes to visit again, so that all classes are visited equally often."""
    counts = np.bincount(labels)
    extra = []
    for label in np.flatnonzero(counts):
        members = np.random.default_rng([seed, epoch, _ORDER, int(label)]).permutation(
            np.flatnonzero(labels == label)
        )
        extra.append(np.resize(members, counts.max() - counts[label]))
    return np.concatenate(extra)


def _resampled(
    visits: NDArray[np.int64], weights: NDArray[np.float64], random: np.random.Generator
) -> NDArray[np.int64]:
    """As many visits, each about as often as it weighs: systematic sampling in a random order."""
    order = random.permutation(len(visits))
    edges = np.cumsum(weights[order]) * (len(visits) / weights.sum())
    ticks = np.arange(len(visits)) + random.random()
    drawn: NDArray[np.int64] = visits[order[np.minimum(np.searchsorted(edges, ticks), len(visits) - 1)]]
    return drawn


def _cut(positions: int, batch_size: int, micro_batches: int) -> tuple[tuple[slice, ...], ...]:
    """Batches of at most `batch_size` (one more image where one would be left alone), as even as can be."""
    steps = max(1, min(-(-positions // batch_size), positions // 2))
    return tuple(
        _slices(start, stop, max(1, min(micro_batches, (stop - start) // 2)))
        for start, stop in _bounds(0, positions, steps)
    )


def _slices(start: int, stop: int, pieces: int) -> tuple[slice, ...]:
    return tuple(slice(*bounds) for bounds in _bounds(start, stop, pieces))


def _bounds(start: int, stop: int, pieces: int) -> list[tuple[int, int]]:
    edges = np.linspace(start, stop, pieces + 1).round().astype(int).tolist()
    return list(pairwise(edges))
