"""How far versions lean on what clinicians call irrelevant: robust accuracy and its drop. Pure numpy.

What is irrelevant in each validation image is exchanged for that of others (Xiao et al. 2020, "Noise or
Signal"): of the same class ("mixed-same"), then of any class ("mixed-rand"), each class as often. Accuracy
with any donor is *robust accuracy*: what is irrelevant says nothing about the label there. How much lower it
is than with donors of the same class, where it says as much as ever, is the *drop*. A drop is no proof of a
shortcut: what was painted may say honestly what an image shows, such as where a tumour sits.

Bounds are by group of the images whose irrelevant part is exchanged; the donors are taken as given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imil_backend.errors import LearningError
from imil_backend.learning.scoring.bounds import bounds_of_mean
from imil_backend.learning.scoring.endpoints import Pairs


@dataclass(frozen=True)
class Interval:
    """A mean over samples; each of the two bounds holds with 95 % confidence."""

    value: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Robustness:
    """What the shortcut test shows of one version."""

    same_class: Interval  # accuracy with donors of the same class
    robust_accuracy: Interval  # accuracy with donors of any class
    drop: Interval  # the first minus the second


def shares_right(
    right: NDArray[np.bool_], same_class: NDArray[np.int64], any_class: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How often each sample was answered rightly, (samples,) with donors of the same, of any class; 0..1.

    Args:
        right: (images,) whether what was asked was answered rightly.
        same_class: (draws, samples) indices into the images.
        any_class: (draws, samples) likewise.
    """
    same, other = right[same_class].mean(axis=0), right[any_class].mean(axis=0)
    return np.asarray(same, np.float64), np.asarray(other, np.float64)


def robustness_of(
    same_class: NDArray[np.float64], any_class: NDArray[np.float64], groups: Sequence[str]
) -> Robustness:
    """Summarise the shares of draws that were answered rightly.

    Args:
        same_class: (samples,) with donors of the same class, 0..1; one sample at least.
        any_class: (samples,) with donors of any class.
        groups: of the samples.
    """
    return Robustness(
        same_class=_interval(same_class, groups),
        robust_accuracy=_interval(any_class, groups),
        drop=_interval(same_class - any_class, groups, least=-1.0),
    )


def pair_exchanged(test: Mapping[str, Any]) -> Pairs:
    """Bring champion and candidate together on the images of a shortcut test.

    Args:
        test: `shortcut.json`, with both versions' shares on the same draws.

    Raises:
        LearningError: a share is no number.
    """
    champion, candidate = (np.array(test[each]["any_class"], np.float64) for each in ("parent", "candidate"))
    for values in (champion, candidate):
        if not np.isfinite(values).all():
            raise LearningError(
                "The shortcut test has values that are not numbers. Train again: `imil train`."
            )
    groups = np.unique(np.array(test["groups"], np.str_), return_inverse=True)[1].astype(np.int64)
    return Pairs(np.array(test["labels"], np.int64), groups, champion, candidate)


def _interval(values: NDArray[np.float64], groups: Sequence[str], least: float = 0.0) -> Interval:
    lower, upper = bounds_of_mean(values, groups, least=least)
    value = float(values.mean())
    return Interval(value, min(lower, value), max(upper, value))
