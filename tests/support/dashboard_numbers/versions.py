"""The pages of the versions and of each version."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from support.dashboard_numbers.estimates import Split, check_estimate
from support.dashboard_numbers.files import Files, moment
from support.dashboard_numbers.page import Page, Visit

HAS_FIGURES = "report/evaluation.json"
METRICS = ("accuracy", "balanced accuracy", "AUC")


def check_versions(visit: Visit, files: Files) -> None:
    """The family tree, metrics, promotions; of each version its figures, the test split, and its recipe."""
    html = visit("/datasets/1/versions")
    page, versions = Page(html), files.ask("SELECT * FROM versions ORDER BY id")
    tree = re.findall(r'class="depth-(\d+)">.*?href="[^"]*?versions/(\d+)"', html)
    assert [(int(number), int(depth)) for depth, number in tree] == list(_tree(versions, None))
    for version in versions:
        (row,) = [each for each in page.rows if version["name"] in each[0].split()]
        _check_line(row, version, files)
    answers, simulated = files.given()
    assert (f"Simulated: {simulated} of {answers} answers" in page.text) == bool(simulated)
    figures = [each for each in versions if Path(each["directory"], HAS_FIGURES).exists()]
    assert f"has judged, {len(versions)} so far" in page.text
    assert ("without figures" in page.text) == (len(figures) < len(versions))
    promotions = files.ask(
        "SELECT promotions.created_at, name, by, reason FROM promotions JOIN versions ON version_id = "
        "versions.id ORDER BY promotions.id DESC"
    )
    assert page.rows[len(versions) + 2 :] == [
        [moment(at), name, by, " ".join(reason.split())] for at, name, by, reason in promotions
    ]
    for version in versions:
        _check_version(visit, version, versions, files)


def _tree(versions: list[sqlite3.Row], parent: int | None, depth: int = 0) -> Iterator[tuple[int, int]]:
    """Id and depth of each: below the one that it was compared with, the oldest first."""
    for each in versions:
        if each["parent_id"] == parent:
            yield each["id"], depth
            yield from _tree(versions, each["id"], depth + 1)


def _check_line(row: list[str], version: sqlite3.Row, files: Files) -> None:
    name, round_, verdict, masks, *values, of, made = row
    events = "SELECT count(*) FROM audit WHERE version_id = ? AND event = ?"
    assert name.endswith("champion") == (version["id"] == files.champion()["id"])
    assert ("weights removed" in name) == bool(files.count(events, version["id"], "weights removed"))
    trained_by = files.ask("SELECT * FROM rounds WHERE version_id = ?", version["id"])
    assert round_ == (str(trained_by[0]["number"]) if trained_by else "-")
    told = json.loads(trained_by[0]["verdict"] or "{}") if trained_by and version["parent_id"] else {}
    assert verdict.startswith(told.get("verdict", "-"))
    assert ("rejected it" in verdict) == bool(files.count(events, version["id"], "rejected"))
    assert masks == str(version["blacked_out"])
    assert made == moment(version["created_at"])
    if Path(version["directory"], HAS_FIGURES).exists():
        validation = Split.of(version, "validation")
        assert of == f"{len(validation.labels):,} ({len(set(validation.groups)):,})"
        found = {each.name: each for each in validation.metrics(files.classes())}
        for metric, shown in zip(METRICS, values, strict=True):
            if metric in found:
                check_estimate(shown, found[metric])
            else:
                assert shown == "-"
    else:
        assert [*values, of] == ["-"] * (len(METRICS) + 1)


def _check_version(visit: Visit, version: sqlite3.Row, versions: list[sqlite3.Row], files: Files) -> None:
    html = visit(f"/datasets/1/versions/{version['id']}")
    page = Page(html)
    assert f"of {version['blacked_out']} training samples" in page.text
    made = f"{moment(version['created_at'])}, in {version['seconds']:,.0f} s"
    assert f"{made}, by imil-backend {version['code_version']} " in page.text
    for kept in ("recipe", "choices"):
        values = json.loads(version[kept]).items()
        assert ", ".join(f"{name} {value}" for name, value in values) in page.text
    assert f"Fingerprint of samples, masks and recipe: {version['fingerprint']} " in page.text
    rounds = files.ask("SELECT number FROM rounds WHERE version_id = ?", version["id"])
    _, simulated = files.given("rounds.number <= ?", rounds[0][0] if rounds else 1e9)
    assert f" Round {rounds[0][0] if rounds else '-'} " in page.text
    assert (f"Simulated: {simulated} answer" in page.text) == bool(simulated)
    compared = {each["id"]: each for each in versions}.get(version["parent_id"])
    if compared is not None:
        before, now = (json.loads(each["recipe"]) for each in (compared, version))
        names = [name for name in now | before if before.get(name, "-") != now.get(name, "-")]
        start = page.rows.index(["Field", "There", "Here"]) + 1 if names else 0
        assert {row[0]: row[1:] for row in page.rows[start : start + len(names)]} == {
            name: [str(before.get(name, "-")), str(now.get(name, "-"))] for name in names
        }
        assert (f"It is that of {compared['name']}" in page.text) == (not names)
    if Path(version["directory"], HAS_FIGURES).exists():
        shown, _, test = html.partition('<details class="test">')
        _check_split(Page(shown), Split.of(version, "validation"), files.classes())
        looks = sum(bool(files.predicted(each, "test")) for each in versions)
        tested = Split.of(version, "test")
        assert bool(test) == bool(len(tested.labels))
        if test:
            assert f"looked at {looks} time{'' if looks == 1 else 's'} " in Page(test).text
            assert f"{looks} so far" in Page(test).text
            _check_split(Page(test), tested, files.classes())


def _check_split(page: Page, split: Split, classes: list[str]) -> None:
    assert f" {len(split.labels):,} samples of {len(set(split.groups)):,} groups. Intervals" in page.text
    metrics = split.metrics(classes)
    assert metrics
    for metric in metrics:
        shown = page.row(metric.name)[1]
        check_estimate(shown, metric)
        samples = sum(len(each.values) for each in metric.parts)
        groups = len({group for each in metric.parts for group in each.groups})
        assert f"; {samples} sample{'' if samples == 1 else 's'} of {groups} group" in shown
    said, bins = split.probabilities.max(axis=1), {}
    for sure, right in zip(said, split.right, strict=True):
        bins.setdefault(min(int(sure * 10), 9), []).append(sure - right)
    error = sum(abs(sum(each)) for each in bins.values()) / len(said)
    shown = page.row("expected calibration error")[1]
    assert abs(float(shown.split()[0]) - error) < 0.0006
    assert f"({len(bins)} bins;" in shown
    for number, label in enumerate(classes):
        own = split.predicted[split.labels == number]
        assert page.row(label)[1:] == [
            f"{(own == other).sum():,} of {len(own):,}" for other in range(len(classes))
        ]
