"""DeLong's test of two networks' AUC on the same samples, where patients have several, and over seeds.

Structural components by midranks (DeLong et al. 1988; Sun and Xu 2014), summed by patient (Obuchowski 1997).
Over seeds it asks about the mean of their AUCs: a patient's components are averaged over the seeds first,
since all are measured on the same patients. The seeds' networks are taken as given: it tells what other
patients would show of these trainings, and nothing of other trainings. Of several classes AUC is the mean of
each one against the rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imil_backend.learning.scoring.metrics import placements
from imil_backend.loop.comparing.statistics.measures import Answers, Floats


@dataclass(frozen=True)
class AucDifference:
    """The second network's AUC minus the first one's."""

    value: float
    standard_error: float
    p: float  # two-sided


def delong(pairs: Sequence[tuple[Answers, Answers]]) -> AucDifference | None:
    """The mean difference of AUC over pairs of networks (one of each seed).

    Args:
        pairs: both of one pair answer the same samples; patients are numbered alike in all pairs.

    Returns:
        None where a pair's samples are all of one class.
    """
    from scipy import stats

    patients = 1 + max(int(first.patients.max()) for first, _ in pairs)
    own = [_components(*pair, patients) for pair in pairs]
    if any(each is None for each in own):
        return None
    value = float(np.mean([each[0] for each in own if each]))
    error = float(np.sqrt((np.mean([each[1] for each in own if each], axis=0) ** 2).sum()))
    if error == 0:
        return AucDifference(value, 0.0, 1.0 if value == 0 else 0.0)
    return AucDifference(value, error, float(2 * stats.norm.sf(math.fabs(value) / error)))


def _components(first: Answers, second: Answers, patients: int) -> tuple[float, Floats] | None:
    """The difference of one pair, and what each patient (patients,) adds to its error."""
    present = np.unique(first.labels)
    if len(present) < 2:
        return None
    asked = present if first.probabilities.shape[1] > 2 else present[1:]
    value, added = 0.0, np.zeros(patients)
    for label in asked:
        positive = first.labels == label
        before, after = (placements(each.probabilities[:, label], positive) for each in (first, second))
        change = after - before
        difference = float(change[positive].mean())
        value += difference / len(asked)
        for side in (positive, ~positive):
            own = first.patients[side]
            units = len(np.unique(own))
            free = math.sqrt(units / max(units - 1, 1))  # so that the variance is divided by one less
            parts = np.bincount(own, change[side] - difference, patients)
            added += free * parts / side.sum() / len(asked)
    return value, added
