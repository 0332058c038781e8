from __future__ import annotations

from imil_backend.learning.scoring.power import Margins, power_of

CLASSES = ("lesion", "normal")


def test_what_a_split_cannot_show_is_said_with_the_groups_that_could() -> None:
    labels = ["normal"] * 97 + ["lesion"] * 12
    told = [str(each) for each in power_of(labels, [str(n) for n in range(109)], CLASSES, Margins())]
    assert told == [
        "109 groups cannot exclude a loss of 0.020 in accuracy; 149 could",
        "12 groups with lesion cannot exclude a loss of 0.100 in its recall; 29 could",
        "12 groups with lesion cannot exclude a loss of 0.050 in AUC; 59 could",
    ]


def test_what_a_split_can_show_is_said_too() -> None:
    labels = list(CLASSES) * 80
    powers = power_of(labels, [str(n) for n in range(160)], CLASSES, Margins())
    assert all(each.enough for each in powers)
    assert str(powers[0]) == "160 groups can exclude a loss of 0.020 in accuracy"


def test_a_class_without_samples_is_the_rarest() -> None:
    accuracy, recall, _ = power_of(["normal"], ["a"], CLASSES, Margins())
    assert (recall.label, recall.groups, recall.enough) == ("lesion", 0, False)
    assert str(accuracy) == "1 group cannot exclude a loss of 0.020 in accuracy; 149 could"


def test_an_empty_split_shows_nothing() -> None:
    assert [each.groups for each in power_of([], [], CLASSES, Margins())] == [0, 0, 0]


def test_a_few_large_groups_do_not_count_as_many() -> None:
    groups = ["large"] * 100 + [str(n) for n in range(200)]
    (accuracy, _, _) = power_of(["lesion", "normal"] * 150, groups, CLASSES, Margins())
    assert (accuracy.groups, accuracy.counts_as) == (201, 8)
    assert "201 groups of unlike sizes, which count as 8, cannot exclude" in str(accuracy)


def test_auc_of_several_classes_is_a_mean_to_which_one_of_them_adds_little() -> None:
    classes = ("a", "b", "c", "d")
    auc = power_of(list(classes) * 15, [str(n) for n in range(60)], classes, Margins())[-1]
    assert (auc.needed, auc.groups, auc.enough) == (14, 15, True)
