"""The start page."""

from __future__ import annotations

import json
import math
import re
import sqlite3
from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path
from statistics import fmean

from support.dashboard_numbers.files import COUNTED, Files, champions_validation, moment
from support.dashboard_numbers.page import Page, Visit


def check_start(visit: Visit, files: Files) -> None:
    """Samples, state, answers, champion and what needs a person."""
    page = Page(visit("/"))
    count = "SELECT count(*) FROM samples WHERE split = ?"
    train, validation, test = (files.count(count, split) for split in ("train", "validation", "test"))
    assert f"Samples {train:,} train, {validation:,} validation, {test:,} test" in page.text
    round_ = files.ask("SELECT * FROM rounds ORDER BY number DESC LIMIT 1")[0]
    assert f"Round {round_['number']} {round_['state']}" in page.text
    answered, tasks = files.answered(round_["id"])
    assert f"{answered} of {tasks} tasks" in page.text
    _, simulated = files.given()
    assert ("Simulated: " in page.text) == bool(simulated)
    if simulated:
        assert f"Simulated: {simulated} answer" in page.text
    policy = json.loads(files.ask("SELECT policy FROM datasets")[0][0])
    if round_["state"] == "open":
        enough = max(1, math.ceil(round(policy.get("close_share", 0.8) * tasks, 6)))
        assert f"; {enough} close the round" in page.text
        _check_pace(page, round_, enough, files)
    right = [max(values) == values[label] for label, values in champions_validation(files).values()]
    groups = files.count(
        "SELECT count(DISTINCT \"group\") FROM samples WHERE split = 'validation' AND excluded IS NULL"
    )
    told = f"accuracy {fmean(right):.3f} {_bounds(files.champion(), 'accuracy')}; {len(right)} samples of"
    assert f"{told} {groups} group" in page.text
    unlike = sum(len({each["answer"] for each in own.values()}) > 1 for own in files.readings().values())
    assert ("different answers" in page.text) == bool(unlike)
    if unlike:
        assert re.search(rf"\b{unlike} samples? w(as|ere) given different answers", page.text)
    kinds = Counter(row["kind"] for row in files.ask("SELECT kind FROM set_aside"))
    kinds["annotation"] += sum(each["answer"] == "set_aside" for each in files.standing())
    for kind, number in kinds.items():
        assert (f"{number} {kind}" in page.text) == bool(number), kind


def _check_pace(page: Page, round_: sqlite3.Row, enough: int, files: Files) -> None:
    """Of a round that is younger than a week."""
    own = {each["id"] for each in files.ask("SELECT id FROM tasks WHERE round_id = ?", round_["id"])}
    given = [each for each in files.standing() if each["answer"] in COUNTED and each["task_id"] in own]
    recent = [each for each in given if each["label_studio_created_at"] >= round_["created_at"]]
    if not recent:
        assert "No answer" in page.text
        return
    count = f"{len(recent)} answer{'' if len(recent) == 1 else 's'} since {moment(round_['created_at'])}"
    assert count in page.text
    passed = datetime.now(timezone.utc) - _utc(round_["created_at"])
    a_day = len(recent) / (passed / timedelta(days=1))
    shown = float(re.search(r"([\d.]+) in 24 hours", page.text).group(1))
    assert a_day <= shown <= a_day * 1.5  # as it was some seconds ago
    answered, _ = files.answered(round_["id"])
    if answered >= enough:
        assert "It has the answers that close it." in page.text
        return
    begun = {each["task_id"] for each in given}
    left = max((enough - answered) * round_["readers"] - (len(begun) - answered), 1)
    expected = datetime.now(timezone.utc) + timedelta(days=left / a_day)
    told = re.search(r"closes about (\S+ \S+) UTC", page.text).group(1)
    assert abs(_utc(told) - expected) < timedelta(minutes=2)


def _utc(stored: str) -> datetime:
    return datetime.fromisoformat(stored).replace(tzinfo=timezone.utc)


def _bounds(version: sqlite3.Row, metric: str) -> str:
    """The interval that was worked out with the version's report; it is drawn by chance."""
    kept = json.loads((Path(version["directory"]) / "report" / "evaluation.json").read_text())
    (found,) = [each for each in kept["splits"]["validation"]["estimates"] if each["metric"] == metric]
    return f"(95%: {found['lower']:.3f} to {found['upper']:.3f}"
