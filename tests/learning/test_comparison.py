import numpy as np
import pytest

from imil_backend.errors import LearningError
from imil_backend.learning.comparison import compare, groups_needed


def predictions(correct: np.ndarray, group_size: int = 1) -> dict:
    """Of class 0 throughout, predicted rightly where `correct`."""
    return {
        "keys": [f"s{index}" for index in range(len(correct))],
        "groups": [f"g{index // group_size}" for index in range(len(correct))],
        "labels": [0] * len(correct),
        "probabilities": [[0.9, 0.1] if right else [0.2, 0.8] for right in correct],
    }


def draw(share: float, count: int = 600, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(count) < share


def test_a_better_candidate_is_promoted():
    result = compare(predictions(draw(0.7)), predictions(draw(0.9, seed=1)))
    assert result.verdict == "promote"
    assert 0 < result.lower < result.difference < result.upper
    assert (result.samples, result.groups) == (600, 600)


def test_an_equal_candidate_is_promoted():
    result = compare(predictions(draw(0.8)), predictions(draw(0.8)))
    assert (result.verdict, result.difference, result.lower) == ("promote", 0, 0)


def test_a_worse_candidate_is_rejected():
    assert compare(predictions(draw(0.9)), predictions(draw(0.7, seed=1))).verdict == "reject"


def test_noise_is_undecided():
    champion = draw(0.8)
    candidate = champion.copy()
    candidate[::12] ^= True
    result = compare(predictions(champion[:200]), predictions(candidate[:200]))
    assert result.verdict == "undecided"
    assert "neither shown nor excluded" in result.reason


def test_a_small_split_is_undecided_even_without_a_difference():
    result = compare(predictions(draw(0.8, 100)), predictions(draw(0.8, 100)))
    assert result.verdict == "undecided"
    assert "100 groups" in result.reason and "149" in result.reason


def test_a_disaster_is_rejected_even_on_a_small_split():
    assert compare(predictions(draw(1.0, 40)), predictions(draw(0.2, 40))).verdict == "reject"


def test_groups_are_drawn_not_samples():
    champion, candidate = predictions(draw(0.8)), predictions(draw(0.8, seed=1))
    together = [predictions(np.repeat(draw(0.8, 300, seed), 4), 4) for seed in (0, 1)]
    alone = compare(champion, candidate)
    grouped = compare(*together)
    assert grouped.groups == 300
    assert grouped.samples == 1200
    assert grouped.upper - grouped.lower > alone.upper - alone.lower


def test_equal_seeds_give_equal_bounds():
    pair = predictions(draw(0.8)), predictions(draw(0.8, seed=1))
    assert compare(*pair) == compare(*pair)
    assert compare(*pair).lower != compare(*pair, seed=1).lower


def test_only_shared_samples_count():
    candidate = predictions(draw(0.9))
    half = {name: values[300:] for name, values in predictions(draw(0.8)).items()}
    assert compare(half, candidate).samples == 300
    nothing = {**half, "keys": [f"other-{index}" for index in range(300)]}
    assert compare(nothing, candidate).verdict == "undecided"


def test_a_changed_label_is_an_error():
    candidate = predictions(draw(0.9))
    candidate["labels"][5] = 1
    with pytest.raises(LearningError, match="s5"):
        compare(predictions(draw(0.9)), candidate)


@pytest.mark.parametrize(("margin", "groups"), [(0.02, 149), (0.05, 59), (0.1, 29)])
def test_groups_needed_follow_from_the_margin(margin: float, groups: int):
    assert groups_needed(margin) == groups
