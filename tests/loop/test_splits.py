from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imil_backend.loop.splitting.splits import Grouped, assign_splits

SPLITS = ("train", "validation", "test")


def samples(given_splits: st.SearchStrategy[str | None]) -> st.SearchStrategy[list[Grouped]]:
    one = st.tuples(st.integers(0, 12), st.sampled_from("abc"), given_splits)
    return st.lists(one, min_size=1, max_size=60).map(
        lambda rows: [
            Grouped(f"{number}", f"group {group}", label, split)
            for number, (group, label, split) in enumerate(rows)
        ]
    )


def splits_of_groups(made: list[Grouped], split: dict[str, str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for sample in made:
        found[sample.group].add(split[sample.name])
    return dict(found)


@pytest.mark.slow
@given(samples(st.none()), st.integers(0, 3))
def test_without_given_splits_no_group_is_in_two_and_nothing_leaks(made: list[Grouped], seed: int) -> None:
    outcome = assign_splits(made, {}, seed)
    assert all(len(splits) == 1 for splits in splits_of_groups(made, outcome.split).values())
    assert outcome.leaking == frozenset()
    assert assign_splits(made[::-1], {}, seed) == outcome  # the order in the source does not matter


@pytest.mark.slow
@given(samples(st.sampled_from([None, *SPLITS])))
def test_a_given_test_split_wins_and_what_is_on_both_sides_leaks(made: list[Grouped]) -> None:
    outcome = assign_splits(made, {})
    for sample in made:
        if sample.given == "test":
            assert outcome.split[sample.name] == "test"
    for group, splits in splits_of_groups(made, outcome.split).items():
        members = [sample for sample in made if sample.group == group]
        if len(splits) > 1:
            assert len(splits - {"test"}) == 1
            beyond = {sample.name for sample in members if outcome.split[sample.name] != "test"}
            assert beyond <= outcome.leaking
        else:
            assert not {sample.name for sample in members} & outcome.leaking


@pytest.mark.slow
@given(samples(st.none()), samples(st.none()), st.integers(0, 3))
def test_a_later_import_follows_the_groups_that_are_there(
    first: list[Grouped], second: list[Grouped], seed: int
) -> None:
    known = splits_of_groups(first, assign_splits(first, {}, seed).split)
    outcome = assign_splits(second, known, seed)
    for group, splits in splits_of_groups(second, outcome.split).items():
        assert splits == known.get(group, splits)
        assert len(splits) == 1
        assert group in known or "test" not in splits  # the test split stays what it was
    assert outcome.leaking == frozenset()


@pytest.mark.slow
@given(samples(st.none()), st.lists(st.sets(st.integers(0, 12), min_size=2, max_size=3)), st.integers(0, 3))
def test_groups_that_share_an_image_are_never_parted_by_a_draw(
    made: list[Grouped], shared: list[set[int]], seed: int
) -> None:
    there = {sample.group for sample in made}
    joined = [{f"group {number}" for number in numbers} & there for numbers in shared]
    outcome = assign_splits(made, {}, seed, joined)
    found = splits_of_groups(made, outcome.split)
    for groups in joined:
        assert len(set().union(*(found[group] for group in groups))) <= 1
    assert assign_splits(made[::-1], {}, seed, [set(groups) for groups in joined[::-1]]) == outcome


def test_a_new_group_that_shares_an_image_follows_unless_its_source_gives_it_a_split() -> None:
    new = [Grouped("a", "p1", "x", None), Grouped("b", "p2", "x", "train")]
    known = {"p8": {"test"}, "p9": {"validation"}}
    split = assign_splits(new, known, joined_groups=[{"p1", "p8"}, {"p2", "p9"}]).split
    assert split == {"a": "test", "b": "train"}


def test_no_split_is_drawn_from_samples_that_are_left_out() -> None:
    made = [Grouped(f"{n}", f"p{n}", "x", None) for n in range(20)]
    out = {f"{n}" for n in range(17)}
    split = assign_splits(made, {}, left_out=out).split
    assert {split[name] for name in out} == {"train"}
    assert sorted(split[f"{n}"] for n in range(17, 20)) == ["test", "train", "validation"]


@pytest.mark.slow
@given(samples(st.none()))
def test_a_class_of_three_groups_is_in_every_split_that_is_drawn(made: list[Grouped]) -> None:
    pure = [Grouped(f"{n}", f"{s.label} {s.group}", s.label, None) for n, s in enumerate(made)]
    split = assign_splits(pure, {}).split
    groups, found = defaultdict(set), defaultdict(set)
    for sample in pure:
        groups[sample.label].add(sample.group)
        found[sample.label].add(split[sample.name])
    for label, own in groups.items():
        wanted = [set(), {"train"}, {"train", "validation"}]
        assert found[label] == (wanted[len(own)] if len(own) < 3 else set(SPLITS))


def test_a_group_given_to_train_and_validation_is_validation() -> None:
    made = [Grouped("a", "p1", "x", "train"), Grouped("b", "p1", "x", "validation")]
    assert assign_splits(made, {}).split == {"a": "validation", "b": "validation"}


def test_a_given_train_split_alone_has_validation_drawn_from_it_and_no_test() -> None:
    made = [Grouped(f"{n}", f"p{n}", "x", "train") for n in range(20)]
    assert set(assign_splits(made, {}).split.values()) == {"train", "validation"}


def test_a_new_sample_of_a_group_in_test_that_is_given_to_train_leaks() -> None:
    outcome = assign_splits([Grouped("a", "p1", "x", "train")], {"p1": {"test"}, "p2": {"train"}})
    assert outcome.leaking == {"a"}


def test_a_rare_class_in_groups_of_other_classes_is_in_every_split_all_the_same() -> None:
    made = [Grouped(f"{g}/{n}", f"p{g}", "common", None) for g in range(20) for n in range(3)]
    made += [Grouped(f"{g}/rare", f"p{g}", "rare", None) for g in range(4)]
    split = assign_splits(made, {}).split
    assert {split[f"{g}/rare"] for g in range(4)} == set(SPLITS)
