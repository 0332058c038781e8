import numpy as np
import pytest

from imil_backend.errors import LearningError
from imil_backend.learning.scoring.ranking import budget_of, likely_label_errors, rank_mispredictions


def record(key: str, margin: float, label: int = 0, doubted: bool = False) -> dict:
    return {
        "key": key,
        "label": label,
        "wrong": margin < 0,
        "margin": margin,
        "likely_label_error": doubted,
    }


def keys(ranked: list) -> str:
    return "".join(entry["key"] for entry in ranked)


RECORDS = [
    record("a", -1.0),
    record("b", -3.0),
    record("c", 0.1),
    record("d", -5.0, doubted=True),
    record("e", -1.0, label=1),
    record("f", 4.0),
]


def test_confidently_wrong_comes_first_and_likely_label_errors_last():
    assert keys(rank_mispredictions(RECORDS, budget=10)) == "baed"


def test_the_order_does_not_depend_on_the_order_of_the_records():
    assert keys(rank_mispredictions(RECORDS[::-1], budget=10)) == "baed"


def test_the_budget_cuts():
    assert keys(rank_mispredictions(RECORDS, budget=2)) == "ba"


def test_excluded_samples_are_never_asked_about():
    assert keys(rank_mispredictions(RECORDS, budget=10, exclude={"b"}, fill_with_uncertain=True)) == "aedcf"


def test_the_least_certain_fill_up_only_when_asked():
    assert keys(rank_mispredictions(RECORDS, budget=5, fill_with_uncertain=True)) == "baedc"


def test_classes_take_turns_when_asked():
    assert keys(rank_mispredictions(RECORDS, budget=2, per_class=True)) == "be"
    assert keys(rank_mispredictions(RECORDS, budget=10, per_class=True)) == "bead"


VARIED = [
    {**entry, "variety": variety, "margin_deviation": deviation}
    for entry, variety, deviation in zip(
        RECORDS, [None, 0, 2, None, None, 1], [0.1, 0.2, 0.9, 5.0, 0.3, 0.4], strict=True
    )
]


def test_mixed_asks_in_turns_the_wrong_and_the_right_that_change_with_their_surroundings():
    assert keys(rank_mispredictions(VARIED, budget=10, ask="mixed")) == "bfaced"  # f is the more varied one
    assert keys(rank_mispredictions(VARIED, budget=3, ask="mixed")) == "bfa"


def test_disagreement_asks_where_the_epochs_disagreed_and_doubted_labels_last():
    assert keys(rank_mispredictions(VARIED, budget=10, ask="disagreement")) == "cfebad"


@pytest.mark.parametrize("ask", ["mixed", "disagreement"])
def test_records_of_an_earlier_release_are_refused_where_they_do_not_suffice(ask: str):
    with pytest.raises(LearningError, match=f"--ask {ask} needs values .*--ask mispredicted"):
        rank_mispredictions(RECORDS, budget=10, ask=ask)


def test_no_records_give_no_mispredictions():
    assert rank_mispredictions([], budget=3, fill_with_uncertain=True) == []


def test_the_usual_budget_is_four_percent_and_at_least_one():
    assert (budget_of(1000), budget_of(10), budget_of(100, 0.5)) == (40, 1, 50)


def test_a_label_is_doubted_when_it_stays_wrong_while_its_class_is_learned():
    labels = np.repeat([0, 1], 20)
    means = np.linspace(2, 3, 40).astype(np.float32)
    means[5] = -4
    wrong = np.zeros(40, bool)
    wrong[[5, 6]] = True
    assert np.flatnonzero(likely_label_errors(wrong, means, labels, epochs=3)).tolist() == [5]
    assert not likely_label_errors(wrong, means, labels, epochs=1).any()


def test_no_label_is_doubted_while_the_class_is_not_learned():
    means = np.linspace(-3, -2, 20).astype(np.float32)
    assert not likely_label_errors(np.ones(20, bool), means, np.zeros(20, int), epochs=5).any()
