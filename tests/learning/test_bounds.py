from __future__ import annotations

import math

import numpy as np
import pytest

from imil_backend.learning.scoring.bounds import bounds_of, corrected, groups_needed, sign_test
from imil_backend.learning.scoring.endpoints import Endpoint, Pairs, Part, endpoints
from imil_backend.learning.scoring.metrics import compute_metrics


def accuracy_of(worse: int, better: int, groups: int) -> Endpoint:
    """So many groups of one sample, of which some changed."""
    differences = np.zeros(groups)
    differences[:worse], differences[worse : worse + better] = -1, 1
    part = Part(differences, np.ones(groups), unseen=1.0)
    mean = float(differences.mean())
    return Endpoint("accuracy", None, 1.0, 1.0 + mean, mean, groups, groups, (part,))


def pairs_of(seed: int, samples: int = 240, classes: int = 2, groups: int = 80) -> Pairs:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, samples)
    own = np.eye(classes)[labels]
    champion, candidate = (
        (raw := own * strength + random.random((samples, classes))) / raw.sum(axis=1, keepdims=True)
        for strength in (0.5, 0.4)
    )
    return Pairs(labels, random.integers(0, groups, samples), champion, candidate)


@pytest.mark.parametrize(("worse", "groups"), [(0, 149), (1, 300), (5, 60), (25, 40)])
def test_groups_that_only_get_worse_are_bounded_as_by_clopper_and_pearson(worse: int, groups: int) -> None:
    (bounds,) = bounds_of([accuracy_of(worse, 0, groups)], resamples=40_000)
    loss = -bounds.lower  # so large a one would show no more than these with a chance of 5 %
    chance = sum(
        math.comb(groups, count) * loss**count * (1 - loss) ** (groups - count) for count in range(worse + 1)
    )
    assert chance == pytest.approx(0.05, rel=0.06)


@pytest.mark.parametrize(("worse", "better"), [(3, 0), (9, 2), (15, 1), (40, 30)])
def test_a_loss_is_as_likely_by_chance_as_by_the_exact_sign_test(worse: int, better: int) -> None:
    changed = worse + better
    exact = sum(math.comb(changed, count) for count in range(worse, changed + 1)) / 2**changed
    assert sign_test(worse, better) == pytest.approx(exact)
    (bounds,) = bounds_of([accuracy_of(worse, better, 200)], resamples=40_000)
    assert bounds.p == pytest.approx(exact, rel=0.1, abs=2e-4)


def test_without_a_change_there_is_nothing_to_test() -> None:
    assert sign_test(0, 0) == 1.0
    assert sign_test(20_000, 0) == 0.0


@pytest.mark.parametrize(("margin", "groups"), [(0.02, 149), (0.05, 59), (0.1, 29)])
def test_groups_needed_follow_from_the_margin(margin: float, groups: int) -> None:
    assert groups_needed(margin) == groups
    for count, excludes in ((groups, True), (groups - 1, False)):
        (bounds,) = bounds_of([accuracy_of(0, 0, count)], resamples=10)
        assert (bounds.lower > -margin) is excludes


def test_chances_are_corrected_as_by_holm() -> None:
    assert corrected([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert corrected([0.9, 0.8]) == [1.0, 1.0]


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 3])
def test_auc_is_that_of_the_metrics_and_its_bounds_those_of_groups_drawn_again(classes: int) -> None:
    pairs = pairs_of(1, classes=classes)
    auc = endpoints(pairs)[-1]
    values = [compute_metrics(each, pairs.labels)["auc"] for each in (pairs.champion, pairs.candidate)]
    assert [auc.champion, auc.candidate] == pytest.approx(values)

    random = np.random.default_rng(0)
    members = [np.flatnonzero(pairs.groups == group) for group in np.unique(pairs.groups)]
    drawn = []
    for _ in range(1000):
        chosen = np.concatenate([members[index] for index in random.integers(0, len(members), len(members))])
        before, after = (
            compute_metrics(each[chosen], pairs.labels[chosen])["auc"]
            for each in (pairs.champion, pairs.candidate)
        )
        drawn.append(after - before)  # type: ignore[operator]
    (bounds,) = bounds_of([auc])
    spread = auc.difference - np.quantile(drawn, 0.05)
    # The group that nobody has seen lowers the bound by what such a group can cost.
    assert spread * 0.9 < auc.difference - bounds.lower < spread + 3 / (auc.counts_as * classes / 2)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_draws_of_many_groups() -> None:
    import tracemalloc

    tracemalloc.start()
    bounds_of([accuracy_of(10, 5, 20_000)])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50 * 2**20
