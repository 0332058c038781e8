"""The page of the queue."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from typing import Any

from support.dashboard_numbers.files import COUNTED, Files
from support.dashboard_numbers.page import Page, Visit


def check_queue(visit: Visit, files: Files) -> None:
    """What waits for an answer and what comes next, with rank and prediction."""
    page, classes = Page(visit("/datasets/1/queue")), files.classes()
    names = {row["key"]: row["name"] for row in files.ask("SELECT * FROM samples")}
    shown = {
        row[2].removesuffix(" Open the task"): row for row in page.rows if len(row) == 6 and row[0] != "Rank"
    }
    expected = {}
    latest = files.ask("SELECT * FROM rounds ORDER BY number DESC LIMIT 1")[0]
    if latest["state"] in {"open", "pushing"}:
        asking = files.ask("SELECT * FROM versions WHERE id = ?", latest["mined_version_id"])[0]
        people = defaultdict(set)
        for each in files.standing():
            if each["answer"] in COUNTED:
                people[each["task_id"]].add(each["annotator"])
        for key, task in files.ask(
            "SELECT key, tasks.id FROM tasks JOIN samples ON samples.id = sample_id WHERE round_id = ? AND "
            "NOT tasks.deleted",
            latest["id"],
        ):
            if len(people[task]) < latest["readers"]:
                expected[key] = _ranked(files, asking)[key]
    expected |= _next(files)
    assert set(shown) == {names[key] for key in expected}
    for key, (rank, record) in expected.items():
        _, _, _, label, says, why = shown[names[key]]
        assert shown[names[key]][0] == str(rank)
        assert label == classes[record["label"]]
        assert says == f"{classes[record['predicted']]} , probability {record['probability']:.2f}"
        assert ("was wrong" in why) == record["wrong"]


def _ranked(files: Files, version: sqlite3.Row) -> dict[str, tuple[int, dict[str, Any]]]:
    """Rank and record by key: what was wrong comes first, then what was least certain, by margin and key."""
    mined = files.mined(version).values()
    records = sorted(mined, key=lambda each: (not each["wrong"], each["margin"], each["key"]))
    return {each["key"]: (rank, each) for rank, each in enumerate(records, start=1)}


def _next(files: Files) -> dict[str, tuple[int, dict[str, Any]]]:
    """What the next push would ask: what was wrong and was not asked yet, cut to the budget."""
    policy = json.loads(files.ask("SELECT policy FROM datasets")[0][0])
    asked = {
        row[0]
        for row in files.ask("SELECT key FROM tasks JOIN samples ON samples.id = sample_id WHERE NOT deleted")
    }
    training = files.count("SELECT count(*) FROM samples WHERE split = 'train' AND excluded IS NULL")
    budget = max(1, round(training * policy.get("budget", 0.04)))
    left = [
        (key, found)
        for key, found in _ranked(files, files.champion()).items()
        if key not in asked and (found[1]["wrong"] or policy.get("fill_budget"))
    ]
    return dict(left[:budget])
