"""Splits by group: no patient is in two of them. Pure functions."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from imil_backend.loop.splitting.clusters import joined

VALIDATION_SHARE = 0.15
TEST_SHARE = 0.15


@dataclass(frozen=True)
class Grouped:
    """What splitting needs to know of one sample."""

    name: str
    group: str
    label: str
    given: str | None  # the split in the source


@dataclass(frozen=True)
class Splits:
    """The outcome: a split for every sample, and the samples whose group is in the given test split too."""

    split: dict[str, str]
    leaking: frozenset[str]


def assign_splits(
    samples: Sequence[Grouped],
    known: Mapping[str, Set[str]],
    seed: int = 0,
    joined_groups: Iterable[Set[str]] = (),
    left_out: Collection[str] = (),
) -> Splits:
    """Give every sample a split.

    A given test split wins: its samples are test, whatever their group. What remains is split by group
    (one that is given to train and to validation is validation), and groups that are on both sides of the
    test split leak. Where no validation split is given, 15% of the groups of each class become one. A test
    split is made likewise by the first import, if its source gives no splits at all; later ones add nothing
    but new samples of its groups to it. Groups that are joined are drawn as one, and follow one that is there
    already.

    Args:
        samples: the new samples.
        known: the splits of groups that are there already; their new samples follow.
        seed: decides which groups go where.
        joined_groups: groups that have an image in common.
        left_out: names of samples that will be used for nothing; no validation or test split is made of them.
    """
    given = {sample.given for sample in samples}
    rest: dict[str, list[Grouped]] = defaultdict(list)
    for sample in samples:
        if sample.given != "test":
            rest[sample.group].append(sample)
    whole = {group: group for group in (*known, *rest)} | joined(joined_groups)  # what a group is drawn with
    followed = _followed(rest, known, whole)
    home = {group: _home(members, followed[group], given) for group, members in rest.items()}

    shares = {}
    if "validation" not in given:
        shares["validation"] = VALIDATION_SHARE
    if not known and given == {None}:
        shares["test"] = TEST_SHARE
    to_draw: dict[str, list[Grouped]] = defaultdict(list)
    for group, members in rest.items():
        if home[group] is None:
            to_draw[whole[group]] += [sample for sample in members if sample.name not in left_out]
    drawn = _draw({group: members for group, members in to_draw.items() if members}, shares, seed)
    beyond = {group: home[group] or drawn.get(whole[group], "train") for group in rest}

    split = {
        sample.name: sample.given if sample.given == "test" else beyond[sample.group] for sample in samples
    }
    in_test = {s.group for s in samples if split[s.name] == "test"}
    in_test |= {group for group, splits in known.items() if "test" in splits}
    leaking = {s.name for s in samples if split[s.name] != "test" and s.group in in_test}
    return Splits(split, frozenset(leaking))


def _followed(
    groups: Mapping[str, Sequence[Grouped]], known: Mapping[str, Set[str]], whole: Mapping[str, str]
) -> dict[str, Set[str]]:
    """For each group its own splits, or those of the groups it is joined with if its source gives it none."""
    there: dict[str, set[str]] = defaultdict(set)
    for group, splits in known.items():
        there[whole[group]] |= splits
    own = {group: known.get(group, set()) for group in groups}
    return {
        group: own[group] or (there[whole[group]] if all(s.given is None for s in members) else set())
        for group, members in groups.items()
    }


def _home(members: Sequence[Grouped], known: Set[str], given: Set[str | None]) -> str | None:
    """Where a group belongs outside a given test split, or None if it is to be drawn."""
    if learned := known - {"test"}:
        return min(learned)
    if known and all(sample.given is None for sample in members):
        return "test"
    if "validation" in given:
        return "validation" if any(sample.given == "validation" for sample in members) else "train"
    return None


def _draw(groups: Mapping[str, Sequence[Grouped]], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """Draw whole groups for each split, class by class, so that every split has each class in proportion.

    A group with several classes counts for the rarest of them.
    """
    samples = Counter(sample.label for members in groups.values() for sample in members)
    by_class: dict[str, list[str]] = defaultdict(list)
    for group, members in groups.items():
        rarest = min((samples[sample.label], sample.label) for sample in members)[1]
        by_class[rarest].append(group)
    chosen = dict.fromkeys(groups, "train")
    for label, names in sorted(by_class.items()):
        order = sorted(names)
        random.Random(f"{seed}/{label}").shuffle(order)  # noqa: S311 - no secret
        for split, share in shares.items():
            # A class of two groups is in train and validation, one of three or more in test too.
            count = min(max(1, round(share * len(names))), max(0, len(order) - 1))
            for group in order[:count]:
                chosen[group] = split
            order = order[count:]
    return chosen
