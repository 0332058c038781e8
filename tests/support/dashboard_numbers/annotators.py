"""The page of annotators."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping
from itertools import combinations
from statistics import fmean, median

from support.dashboard_numbers.files import LEAVING, Files, dice_of, masks_of
from support.dashboard_numbers.page import Page, Visit


def check_annotators(visit: Visit, files: Files) -> None:
    """Answers, seconds and Dice of each annotator and each pair."""
    page = Page(visit("/datasets/1/annotators"))
    standing, readings, letters = files.standing(), files.readings(), files.letters()
    header = page.rows[0]
    for name in {files.who(each) for each in standing}:
        own = [each for each in standing if files.who(each) == name]
        row = page.row(f"{name} (not a person)" if own[0]["simulated"] else name)
        assert row[1] == str(len(own))
        answers = Counter(each["answer"].replace("_", " ") for each in own)
        assert dict(zip(header[2:-2], map(int, row[2:-2]), strict=True)) == {
            kind: answers[kind] for kind in header[2:-2]
        }
        times = [each["lead_time"] for each in own if each["lead_time"] is not None]
        assert row[-2] == (f"{median(times):.0f} (median of {len(times)})" if times else "-")
        dices = [
            dice_of(masks_of(files, each))
            for each in readings.values()
            if own[0]["annotator"] in each and len(each) > 1 and len(masks_of(files, each)) > 1
            if each[own[0]["annotator"]]["answer"] not in LEAVING
        ]
        assert row[-1] == (f"{fmean(dices):.2f} ({len(dices)} samples)" if dices else "-")
    for one, other in combinations(letters, 2):
        both = [each for each in readings.values() if one in each and other in each]
        if both:
            row = page.row(f"{letters[one]} and {letters[other]}")
            same = sum(each[one]["answer"] == each[other]["answer"] for each in both)
            assert row[1] == f"{same} of {len(both)} samples"
            alone = [dice_of(masks_of(files, each)) for each in both if _painted_by(each) == {one, other}]
            told = f"{fmean(alone):.2f} ({len(alone)} samples that these two alone painted)" if alone else "-"
            assert row[2] == told


def _painted_by(readings: Mapping[int | None, sqlite3.Row]) -> set[int | None]:
    return {who for who, each in readings.items() if each["answer"] not in LEAVING}
