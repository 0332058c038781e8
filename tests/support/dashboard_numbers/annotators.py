"""The page of annotators."""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import combinations
from statistics import fmean, median

from support.dashboard_numbers.files import LEAVING, Files, dice_of, in_words, masks_of
from support.dashboard_numbers.page import Page, Visit


def check_annotators(visit: Visit, files: Files) -> None:
    """Answers, seconds and Dice of each annotator and each pair."""
    page = Page(visit("/datasets/1/annotators"))
    standing, readings = files.standing(), files.readings()
    header = page.rows[0]
    for name in {files.who(each) for each in standing}:
        own = [each for each in standing if files.who(each) == name]
        row = page.row(f"{name} (not a person)" if own[0]["simulated"] else name)
        assert row[1] == str(len(own))
        answers = Counter(in_words(each["answer"]) for each in own)
        assert dict(zip(header[2:-2], map(int, row[2:-2]), strict=True)) == {
            kind: answers[kind] for kind in header[2:-2]
        }
        times = [each["lead_time"] for each in own if each["lead_time"] is not None]
        assert row[-2] == (f"{median(times):.0f} (median of {len(times)})" if times else "-")
        dices = [
            dice_of(masks_of(files, each))
            for each in readings.values()
            if name in _painters(files, each) and len(masks_of(files, each)) > 1
        ]
        assert row[-1] == (f"{fmean(dices):.2f} ({len(dices)} samples)" if dices else "-")
    both = defaultdict(list)
    for each in readings.values():
        for pair in combinations(each.values(), 2):
            both[frozenset(files.who(one) for one in pair)].append((pair, each))
    shown = [row for row in page.rows if " and " in row[0]]
    assert {frozenset(row[0].split(" and ")) for row in shown} == set(both)
    for row in shown:
        pair = frozenset(row[0].split(" and "))
        same = sum(one["answer"] == other["answer"] for (one, other), _ in both[pair])
        assert row[1] == f"{same} of {len(both[pair])} samples"
        alone = [dice_of(masks_of(files, each)) for _, each in both[pair] if _painters(files, each) == pair]
        told = f"{fmean(alone):.2f} ({len(alone)} samples that these two alone painted)" if alone else "-"
        assert row[2] == told


def _painters(files: Files, readings: Mapping[int | None, sqlite3.Row]) -> set[str]:
    return {files.who(each) for each in readings.values() if each["answer"] not in LEAVING}
