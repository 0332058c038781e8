"""The page of each round."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter, defaultdict
from pathlib import Path
from statistics import fmean, median
from typing import Any

from support.dashboard_numbers.estimates import Split, check_estimate
from support.dashboard_numbers.files import COUNTED, Files, in_words
from support.dashboard_numbers.page import Page, Visit

MOST = 12  # samples of a gallery
ROUNDED = 0.0006  # a number with three decimals
SHORTCUT = {
    "robust accuracy (the irrelevant part of any class)": "robust_accuracy",
    "accuracy with that of the same class": "same_class",
    "drop": "drop",
}
Predicted = dict[str, tuple[int, list[float]]]  # label and probabilities by key


def check_round(visit: Visit, files: Files) -> None:
    """Of every round who answered what; of one that compared two versions, all that it changed."""
    for round_ in files.ask("SELECT * FROM rounds ORDER BY number"):
        page = Page(visit(f"/datasets/1/rounds/{round_['number']}"))
        _check_answers(page, round_, files)
        found = files.ask("SELECT * FROM versions WHERE id = ?", round_["version_id"])
        both = (
            [*files.ask("SELECT * FROM versions WHERE id = ?", found[0]["parent_id"]), *found]
            if found
            else []
        )
        if len(both) == 2:
            verdict = json.loads(round_["verdict"])
            _check_findings(page, verdict, both, files.classes())
            _check_benefit(page, round_, verdict, files)
            _check_shortcut(page, verdict, both[1])
            if Path(both[1]["directory"], "report/changes.json").exists():
                _check_values(page, both, files)
                _check_changes(page, both, files)
                _check_test(page, both, files)
                _check_reasons(
                    page, Page(visit(f"/datasets/1/reasons?round={round_['number']}")), round_, files
                )


def _check_answers(page: Page, round_: sqlite3.Row, files: Files) -> None:
    answered, tasks = files.answered(round_["id"])
    assert (f"Answered {answered} of {tasks} tasks" in page.text) == bool(tasks)
    answers, simulated = files.given("rounds.number <= ?", round_["number"])
    told = f"Simulated: {simulated} of {answers} answers up to this round are"
    assert (told in page.text) == bool(simulated)
    people = defaultdict(list)
    for each in _standing(round_, files):
        if each["purpose"] != "gold":
            people[files.who(each)].append(each)
    head, *rows = page.tables.get("Answers", [[]])
    assert [row[0] for row in rows] == sorted(people)
    for row in rows:
        shown, given = dict(zip(head, row, strict=True)), people[row[0]]
        counted = [each["purpose"] == "asked" and each["answer"] in COUNTED for each in given]
        told = _told(each for each, counts in zip(given, counted, strict=True) if counts)
        assert shown["Answers"] == (f"{sum(counted)}: {told}" if told else "0")
        others = _told(each for each, counts in zip(given, counted, strict=True) if not counts)
        assert shown.get("Not counted", "-") == (others or "-")
        times = [each["lead_time"] for each in given if each["lead_time"] is not None]
        of = f" (of {len(times)} of {len(given)})" if len(times) < len(given) else ""
        assert shown["Minutes"] == (f"{sum(times) / 60:.1f}{of}" if times else "unknown")


def _standing(round_: sqlite3.Row, files: Files) -> list[sqlite3.Row]:
    """All that was given to a round's tasks, with what the tasks are for."""
    return files.ask(
        "SELECT annotations.*, purpose FROM annotations JOIN tasks ON tasks.id = task_id WHERE round_id = ? "
        "AND NOT annotations.deleted ORDER BY annotations.id",
        round_["id"],
    )


def _told(answers: Any) -> str:
    words = Counter(
        in_words(each["answer"]) + (" (review)" if each["purpose"] == "review" else "") for each in answers
    )
    return ", ".join(f"{count} {word}" for word, count in words.items())


def _check_findings(page: Page, verdict: Any, both: list[sqlite3.Row], classes: list[str]) -> None:
    """What was compared, from the predictions; the bounds are those that decided."""
    assert _words(verdict["reason"]) in _words(page.text)
    splits = [Split.of(version, "validation") for version in both]
    values = [{metric.name: metric for metric in split.metrics(classes)} for split in splits]
    rows = page.tables["Findings"][1:]
    assert len(rows) == len(verdict["findings"])
    for row, finding in zip(rows, verdict["findings"], strict=True):
        title, before, after, difference, margin, groups, state = row
        assert (margin, state) == (f"{finding['margin']:.3f}", finding["state"])
        bounds = f"({finding['lower']:+.3f} to {finding['upper']:+.3f})"
        assert difference.endswith(bounds)
        if title in values[0]:
            old, new = (each[title].value for each in values)
            for shown, value in ((before, old), (after, new), (difference.split()[0], new - old)):
                assert abs(float(shown) - value) < ROUNDED, (title, shown, value)
        if title == "accuracy" or title.startswith("recall of "):
            label = None if title == "accuracy" else classes.index(title.removeprefix("recall of "))
            assert groups == _groups(splits, label), title


def _words(text: str) -> str:
    """Without what commands stand between."""
    return " ".join(re.findall(r"\w+", text))


def _groups(splits: list[Split], label: int | None) -> str:
    """How many groups have samples of this label, and in how many of them fewer and more are right."""
    change: dict[str, float] = defaultdict(float)
    before, after = splits
    for group, own, old, new in zip(before.groups, before.labels, before.right, after.right, strict=True):
        if label in {None, int(own)}:
            change[group] += new - old
    worse, better = (sum(sign * each > 0 for each in change.values()) for sign in (-1, 1))
    return f"{len(change)} ({worse}, {better})"


def _check_benefit(page: Page, round_: sqlite3.Row, verdict: Any, files: Files) -> None:
    """The minutes of all that was given, and what they brought in accuracy."""
    own = _standing(round_, files)
    times = [each["lead_time"] for each in own if each["lead_time"] is not None]
    gains = [each for each in verdict["findings"] if each["metric"] == "accuracy"]
    if not sum(times) or not gains:
        return
    minutes = sum(times) / 60
    simulated = sum(each["simulated"] for each in own)
    others = sum(each["purpose"] != "asked" or each["answer"] not in COUNTED for each in own)
    beside = f" (reviews, gold tasks and uncounted ones: {others})" if others else ""
    on = f"{len(times)} of {len(own)} answers{beside}"
    spent = f"spent {minutes:.1f} minutes on {on}, {median(times):.0f} seconds"
    by = f" {simulated} of the answers, and their times, are simulated." if simulated else ""
    points = [100 * gains[0][name] for name in ("difference", "lower", "upper")]
    told, each_minute = (
        "{:+.{digits}f}{unit} ({:+.{digits}f} to {:+.{digits}f})".format(*values, digits=digits, unit=unit)
        for values, digits, unit in (
            (points, 1, " points"), ([each / minutes for each in points], 2, " a minute"),
        )
    )  # fmt: skip
    assert f"{spent} each (median).{by} Accuracy: {told}, {each_minute}." in page.text


def _check_reasons(page: Page, reasons: Page, round_: sqlite3.Row, files: Files) -> None:
    """What the page of reasons says, whose numbers are checked there."""
    name = "Evidence inside painted pixels"
    assert page.tables.get(name) == reasons.tables.get(name)
    for told in re.findall(
        r"\d+ of \d+ painted samples|: \d+ samples?; the place .*? in \d+ of \d+", reasons.text
    ):
        assert told in page.text
    which = "answer = 'blackout' AND rounds.number <= ?"
    answers, simulated = files.given(which, round_["number"])
    told = f"Simulated: {simulated} of {answers} painted answers up to this round"
    assert (told in page.text) == (told in reasons.text) == bool(simulated)


def _check_shortcut(page: Page, verdict: Any, version: sqlite3.Row) -> None:
    """The means of what `shortcut.json` holds of each sample; the bounds of its summary."""
    path = Path(version["directory"], "shortcut.json")
    test = json.loads(path.read_text()) if path.exists() else None
    assert bool(test) == bool(verdict["shortcut"]) == ("Shortcut test" in page.text)
    if not test or test["untested"]:
        assert "Shortcut test" not in page.tables
        return
    rows = page.tables["Shortcut test"][1:]
    assert [row[0] for row in rows] == list(SHORTCUT)
    for title, *shown in rows:
        for cell, role in zip(shown, ("parent", "candidate"), strict=True):
            if not test[role]:
                assert cell == "-"
                continue
            same, other = fmean(test[role]["same_class"]), fmean(test[role]["any_class"])
            value = {"robust_accuracy": other, "same_class": same, "drop": same - other}[SHORTCUT[title]]
            assert abs(float(cell.split()[0]) - value) < ROUNDED, (title, cell)
            summary = test[role]["summary"][SHORTCUT[title]]
            assert cell.endswith(f" ({summary['lower']:.3f} to {summary['upper']:.3f})")
    groups = len(set(test["groups"]))
    told = f"{len(test['keys'])} samples in {groups} groups, {test['draws']} draws each; {test['left_out']}"
    assert f"{told} samples without" in page.text


def _check_values(page: Page, both: list[sqlite3.Row], files: Files) -> None:
    """Each metric before and after, with its interval, samples and groups."""
    before, after = (Split.of(version, "validation").metrics(files.classes()) for version in both)
    rows = page.tables["Values before and after"][1:]
    assert {row[0] for row in rows} == {metric.name for metric in after}
    for old, new in zip(before, after, strict=True):
        (row,) = [row for row in rows if row[0] == new.name]
        check_estimate(row[1], old)
        check_estimate(row[2], new)
        assert row[3] == str(sum(len(part.values) for part in new.parts))
        assert row[4] == str(len({group for part in new.parts for group in part.groups}))


def _check_changes(page: Page, both: list[sqlite3.Row], files: Files) -> None:
    """The samples that are right and wrong before and after; those with the largest change, with pictures."""
    before, after = (files.predicted(version, "validation") for version in both)
    count, groups = _counted(before, after), len(set(Split.of(both[1], "validation").groups))
    judged = files.count("SELECT count(*) FROM versions WHERE id <= ?", both[1]["id"])
    told = (
        f"On {len(before)} validation samples of {groups} groups (patients). The validation split has judged"
    )
    assert f"{told} {judged} versions" in page.text
    assert page.tables["Right and wrong"][1:] == [
        ["Before: right", str(count[True, True]), str(count[True, False])],
        ["Before: wrong", str(count[False, True]), str(count[False, False])],
    ]
    for words, was in (("right", False), ("wrong", True)):
        keys = [key for key in before if (_is_right(before[key]), _is_right(after[key])) == (was, not was)]
        assert f"Became {words}: {len(keys)} of {len(before)} samples" in page.text
        _check_gallery(page, keys, before, after, files.classes())


def _check_test(page: Page, both: list[sqlite3.Row], files: Files) -> None:
    before, after = (files.predicted(version, "test") for version in both)
    count, groups = _counted(before, after), len(set(Split.of(both[1], "test").groups))
    assert (f"Test split: {len(before)} samples of {groups} groups" in page.text) == bool(before)
    told = (
        f"Right in both versions: {count[True, True]}. Became right: {count[False, True]}. "
        f"Became wrong: {count[True, False]}. Wrong in both: {count[False, False]}."
    )
    assert (told in page.text) == bool(before)


def _counted(before: Predicted, after: Predicted) -> Counter[tuple[bool, bool]]:
    """How many samples were right or not before and after."""
    assert set(before) == set(after)
    return Counter((_is_right(before[key]), _is_right(after[key])) for key in before)


def _check_gallery(
    page: Page, keys: list[str], before: Predicted, after: Predicted, classes: list[str]
) -> None:
    places = {}
    for key in keys:
        told = "".join(
            f" {when}: predicted {classes[values.index(max(values))]} ; probability of the label "
            f"{values[label]:.2f}"
            for when, (label, values) in (("Before", before[key]), ("After", after[key]))
        )
        found = page.text.find(f"{classes[before[key][0]]}{told} Sample {key} ")
        if found >= 0:
            places[key] = found
    assert len(places) == min(len(keys), MOST)
    steps = {key: abs(after[key][1][after[key][0]] - before[key][1][before[key][0]]) for key in keys}
    shown = [steps[key] for key in sorted(places, key=lambda key: places[key])]
    assert shown == sorted(steps.values(), reverse=True)[:MOST]
    if len(keys) > MOST:
        assert f"The {MOST} with the largest change are shown, {len(keys) - MOST} more are not" in page.text


def _is_right(predicted: tuple[int, list[float]]) -> bool:
    label, values = predicted
    return values.index(max(values)) == label
