"""The numbers on the dashboard's pages, worked out anew from the database and the files, without our code.

Of a SQLite installation whose policy asks for mispredictions by confidence, as it is by default.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file
from support.conditions import wait_until

Visit = Callable[[str], str]  # the page at a path below /dashboard
COUNTED = ("blackout", "nothing", "label_wrong", "unreadable")  # the answers that count
LEAVING = ("label_wrong", "unreadable")


class Page(HTMLParser):
    """A page as somebody reads it.

    Attributes:
        text: all of it, with single spaces.
        rows: of its tables, the texts of their cells.
        items: of the grid of samples, the texts by key.
        links: where its links lead to.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self._said: list[str] = []
        self._cell: list[str] | None = None
        self.rows: list[list[str]] = []
        self.links: list[str] = []
        self.feed(html)
        self.text = " ".join(" ".join(self._said).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        if tag in {"th", "td"}:
            self._cell = []
        if tag == "a":
            self.links.append(dict(attrs)["href"] or "")

    def handle_endtag(self, tag: str) -> None:
        if tag in {"th", "td"} and self._cell is not None:
            self.rows[-1].append(" ".join(" ".join(self._cell).split()))
            self._cell = None

    def handle_data(self, data: str) -> None:
        self._said.append(data)
        if self._cell is not None:
            self._cell.append(data)

    def row(self, first: str) -> list[str]:
        """The only row that begins with this cell."""
        (found,) = [each for each in self.rows if each and each[0] == first]
        return found


class Files:
    """What a data directory holds."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def ask(self, statement: str, *values: object) -> list[sqlite3.Row]:
        """Rows of the database."""
        connection = sqlite3.connect(f"file:{self.directory / 'imil.sqlite'}?mode=ro", uri=True)
        connection.row_factory = sqlite3.Row
        try:
            return connection.execute(statement, values).fetchall()
        finally:
            connection.close()

    def count(self, statement: str, *values: object) -> int:
        """A number in the database."""
        return int(self.ask(statement, *values)[0][0])

    def champion(self) -> sqlite3.Row:
        """The version that was promoted last."""
        return self.ask(
            "SELECT versions.* FROM versions JOIN promotions ON versions.id = version_id "
            "ORDER BY promotions.id DESC LIMIT 1"
        )[0]

    def classes(self) -> list[str]:
        """Of the only dataset."""
        return list(json.loads(self.ask("SELECT classes FROM datasets")[0][0]))

    def mask(self, sha256: str | None) -> NDArray[np.bool_] | None:
        """A painted mask; None of an answer without."""
        path = self.directory / "masks" / (sha256 or "")[:2] / f"{sha256}.png"
        return np.asarray(Image.open(path)).astype(bool) if sha256 else None

    def standing(self) -> list[sqlite3.Row]:
        """The answers that stand, the latest last."""
        return self.ask("SELECT * FROM annotations WHERE NOT deleted ORDER BY label_studio_updated_at, id")

    def readings(self) -> dict[int, dict[int | None, sqlite3.Row]]:
        """By sample, what each person answered last, of the answers that count."""
        latest: dict[int, dict[int | None, sqlite3.Row]] = defaultdict(dict)
        for each in self.standing():
            if each["answer"] in COUNTED:
                latest[each["sample_id"]][each["annotator"]] = each
        return latest

    def letters(self) -> dict[int | None, str]:
        """What people are called: letters, in the order of their first answers."""
        first = self.ask("SELECT annotator FROM annotations GROUP BY annotator ORDER BY min(id)")
        return {row[0]: f"annotator {chr(ord('A') + place)}" for place, row in enumerate(first)}

    def who(self, annotation: sqlite3.Row) -> str:
        """Who has made an annotation."""
        return "simulated clinician" if annotation["simulated"] else self.letters()[annotation["annotator"]]

    def answered(self, round_id: int) -> tuple[int, int]:
        """How many tasks of a round as many people have answered as are to, and how many it has."""
        tasks = self.ask("SELECT * FROM tasks WHERE round_id = ? AND NOT deleted", round_id)
        readers = self.count("SELECT readers FROM rounds WHERE id = ?", round_id)
        people = defaultdict(set)
        for each in self.standing():
            if each["answer"] in COUNTED:
                people[each["task_id"]].add(each["annotator"])
        return sum(len(people[each["id"]]) >= readers for each in tasks), len(tasks)

    def predicted(self, version: sqlite3.Row, split: str) -> dict[str, tuple[int, list[float]]]:
        """Label and probabilities by key."""
        found = json.loads((Path(version["directory"]) / "predictions.json").read_text())[split]
        rows = zip(found["keys"], found["labels"], found["probabilities"], strict=True)
        return {key: (label, values) for key, label, values in rows}

    def mined(self, version: sqlite3.Row) -> dict[str, dict[str, Any]]:
        """The records of training samples by key."""
        records = json.loads((Path(version["directory"]) / "mining.json").read_text())
        return {each["key"]: each for each in records}


def dice_of(masks: Iterable[NDArray[np.bool_]]) -> float:
    """The mean Dice coefficient over all pairs."""
    both = [(2 * (a & b).sum(), a.sum() + b.sum()) for a, b in combinations(masks, 2)]
    return fmean(float(shared / total) if total else 1.0 for shared, total in both)


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
    simulated = files.count(
        "SELECT count(*) FROM annotations JOIN tasks ON tasks.id = task_id WHERE round_id = ? AND simulated "
        "AND NOT annotations.deleted",
        round_["id"],
    )
    assert ("Simulated: " in page.text) == bool(simulated)
    if simulated:
        assert f"Simulated: {simulated} answer" in page.text
    policy = json.loads(files.ask("SELECT policy FROM datasets")[0][0])
    if round_["state"] == "open":
        enough = max(1, math.ceil(round(policy.get("close_share", 0.8) * tasks, 6)))
        assert f"; {enough} close the round" in page.text
        given = [each for each in files.standing() if each["answer"] in COUNTED]
        own = {each["id"] for each in files.ask("SELECT id FROM tasks WHERE round_id = ?", round_["id"])}
        since = [each for each in given if each["task_id"] in own]
        recent = [each for each in since if each["label_studio_created_at"] >= round_["created_at"]]
        assert (f"{len(recent)} answer" if recent else "No answer") in page.text
    right = [max(values) == values[label] for label, values in _validation(files).values()]
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


def _validation(files: Files) -> dict[str, tuple[int, list[float]]]:
    return files.predicted(files.champion(), "validation")


def _bounds(version: sqlite3.Row, metric: str) -> str:
    """The interval that was worked out with the version's report; it is drawn by chance."""
    kept = json.loads((Path(version["directory"]) / "report" / "evaluation.json").read_text())
    (found,) = [each for each in kept["splits"]["validation"]["estimates"] if each["metric"] == metric]
    return f"(95%: {found['lower']:.3f} to {found['upper']:.3f}"


def check_rounds(visit: Visit, files: Files) -> None:
    """A line for each round, with its answers and verdict."""
    page = Page(visit("/datasets/1/rounds"))
    for round_ in files.ask("SELECT * FROM rounds"):
        answered, tasks = files.answered(round_["id"])
        name = f"Round {round_['number']}" if round_["mined_version_id"] else "Baseline"
        _, state, shown, verdict, _ = page.row(name)
        assert state.startswith(round_["state"])
        assert shown == (f"{answered} of {tasks}" if tasks else "-")
        told = json.loads(round_["verdict"] or "null") or {}
        assert verdict.startswith(told.get("verdict", "-"))


def check_samples(visit: Visit, files: Files) -> None:
    """How many samples each choice leaves, which ones, and what the champion says of them."""
    samples = files.ask("SELECT * FROM samples ORDER BY id")
    keys = {row["id"]: row["key"] for row in samples}
    says = _what_the_champion_says(files)
    wrong = {key for key, (label, predicted, _) in says.items() if label != predicted}
    wanted: dict[str, set[str]] = {
        "": set(keys.values()),
        "model=wrong": wrong,
        "model=right": set(says) - wrong,
        "model=doubted": {
            key for key, each in files.mined(files.champion()).items() if each["likely_label_error"]
        },
    }
    for split in ("train", "validation", "test"):
        wanted[f"split={split}"] = {row["key"] for row in samples if row["split"] == split}
    for label in files.classes():
        wanted[f"label={label}"] = {row["key"] for row in samples if row["label"] == label}
    wanted["model=became-right"], wanted["model=became-wrong"] = _changed(files)
    for answer in (*COUNTED, "skipped", "set_aside"):
        own = {each["sample_id"] for each in files.standing() if each["answer"] == answer}
        wanted[f"answer={answer}"] = {keys[number] for number in own}
    for annotator, name in files.letters().items():
        own = {each["sample_id"] for each in files.standing() if each["annotator"] == annotator}
        wanted[f"annotator={name}"] = {keys[number] for number in own}
    wanted["disagree=1"] = {keys[number] for number in _disagreeing(files)}
    for query, chosen in wanted.items():
        html = visit(f"/datasets/1/samples?{query}")
        page = Page(html)
        assert f"{len(chosen):,} of {len(samples):,} samples." in page.text, query
        if len(chosen) <= 60:
            shown = {each.rpartition("/")[2] for each in page.links if re.search(r"samples/[^/?]+$", each)}
            assert shown == chosen, query
    page = Page(visit("/datasets/1/samples"))
    names = {row["key"]: row["name"] for row in samples}
    for key in list(names)[:60]:
        if key in says:
            label, predicted, probability = says[key]
            told = f"champion: {files.classes()[predicted]} , {probability:.2f}"
            shown = page.text.partition(f" {names[key]} ")[2]
            assert re.match(rf"\S+ , \w+ (; excluded: .*? )?{re.escape(told)}", shown), (key, shown[:200])
            assert (label != predicted) == shown.partition(told)[2].startswith(" (wrong)"), key


def _what_the_champion_says(files: Files) -> dict[str, tuple[int, int, float]]:
    """Label, prediction and its probability of training and validation samples, by key."""
    mined = {
        key: (each["label"], each["predicted"], each["probability"])
        for key, each in files.mined(files.champion()).items()
    }
    predicted = {
        key: (label, int(np.argmax(values)), max(values))
        for key, (label, values) in _validation(files).items()
    }
    return mined | predicted


def _changed(files: Files) -> tuple[set[str], set[str]]:
    """The validation samples that became right, and those that became wrong, in the latest comparison."""
    found = files.ask(
        "SELECT versions.* FROM versions JOIN rounds ON version_id = versions.id WHERE parent_id IS NOT NULL "
        "ORDER BY rounds.number DESC LIMIT 1"
    )
    if not found:
        return set(), set()
    parent = files.ask("SELECT * FROM versions WHERE id = ?", found[0]["parent_id"])[0]
    before, after = (
        {
            key: values[label] == max(values)
            for key, (label, values) in files.predicted(each, "validation").items()
        }
        for each in (parent, found[0])
    )
    both = set(before) & set(after)
    return {k for k in both if after[k] > before[k]}, {k for k in both if before[k] > after[k]}


def _disagreeing(files: Files) -> set[int]:
    """Samples whose readers did not answer the same, or did not paint the same."""
    found = set()
    for sample, own in files.readings().items():
        painted = _masks(files, own)
        if len({each["answer"] for each in own.values()}) > 1 or (len(painted) > 1 and dice_of(painted) < 1):
            found.add(sample)
    return found


def _masks(files: Files, readings: Mapping[int | None, sqlite3.Row]) -> list[NDArray[np.bool_]]:
    """What the readers of one sample painted; who found nothing to paint, painted nothing."""
    staying = [each for each in readings.values() if each["answer"] not in LEAVING]
    masks = [files.mask(each["mask_sha256"]) for each in staying]
    shape = next((each.shape for each in masks if each is not None), (1, 1))
    return [np.zeros(shape, bool) if each is None else each for each in masks]


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
            dice_of(_masks(files, each))
            for each in readings.values()
            if own[0]["annotator"] in each and len(each) > 1 and len(_masks(files, each)) > 1
            if each[own[0]["annotator"]]["answer"] not in LEAVING
        ]
        assert row[-1] == (f"{fmean(dices):.2f} ({len(dices)} samples)" if dices else "-")
    for one, other in combinations(letters, 2):
        both = [each for each in readings.values() if one in each and other in each]
        if both:
            row = page.row(f"{letters[one]} and {letters[other]}")
            same = sum(each[one]["answer"] == each[other]["answer"] for each in both)
            assert row[1] == f"{same} of {len(both)} samples"
            alone = [dice_of(_masks(files, each)) for each in both if _painted_by(each) == {one, other}]
            told = f"{fmean(alone):.2f} ({len(alone)} samples that these two alone painted)" if alone else "-"
            assert row[2] == told


def _painted_by(readings: Mapping[int | None, sqlite3.Row]) -> set[int | None]:
    return {who for who, each in readings.items() if each["answer"] not in LEAVING}


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
    """Rank and record by key: what was wrong comes first, then what was least certain, by the margin."""
    records = sorted(files.mined(version).values(), key=lambda each: (not each["wrong"], each["margin"]))
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


def check_reasons(visit: Visit, files: Files) -> None:
    """Evidence inside painted pixels, before and after, and the means of what was painted."""
    page = Page(visit("/datasets/1/reasons"))
    (after,) = files.ask(
        "SELECT versions.* FROM versions JOIN rounds ON version_id = versions.id WHERE parent_id IS NOT NULL "
        "AND state = 'closed' ORDER BY rounds.number DESC LIMIT 1"
    )
    before = files.ask("SELECT * FROM versions WHERE id = ?", after["parent_id"])[0]
    evidence = [_evidence(each) for each in (before, after)]
    samples = {row["id"]: row for row in files.ask("SELECT * FROM samples")}
    masks = {samples[number]["key"]: mask for number, mask in _training_masks(files).items()}
    measured = defaultdict(list)
    for row in samples.values():
        key, mask = row["key"], masks.get(row["key"])
        if mask is not None and all(key in each and each[key].clip(0).any() for each in evidence):
            old, new = (_inside(each[key], mask) for each in evidence)
            for title in ("All", row["label"]):
                measured[title].append((row["group"], mask.mean(), old, new))
    for title, values in measured.items():
        groups = len({group for group, *_ in values})
        row = page.row(f"{title} ({len(values)} in {groups} group{'' if groups == 1 else 's'})")
        share, old, new = (fmean(float(each[place]) for each in values) for place in (1, 2, 3))
        assert row[1] == f"{share:.3f}"
        assert row[2].startswith(f"{old:.3f} (")
        assert row[3].startswith(f"{new:.3f} (")
        # A difference of nothing has either sign.
        assert abs(float(row[4].split()[0]) - (new - old)) <= 0.0005 + 1e-9
    for label in {row["label"] for row in samples.values() if row["key"] in masks}:
        count = sum(row["label"] == label and row["key"] in masks for row in samples.values())
        assert f"{label} : {count} sample" in page.text


def _evidence(version: sqlite3.Row) -> dict[str, NDArray[np.float64]]:
    """By key, what spoke for the class that was predicted, (cells, cells)."""
    tensors = load_file(Path(version["directory"]) / "evidence.safetensors")
    found = {}
    for name in tensors:
        if name.endswith(".keys"):
            maps = tensors[f"{name.removesuffix('.keys')}.predicted"].astype(np.float64)
            keys = [bytes(row).rstrip(b"\0").decode() for row in tensors[name]]
            found |= dict(zip(keys, maps, strict=True))
    return found


def _training_masks(files: Files) -> dict[int, NDArray[np.bool_]]:
    """By sample, what training takes for irrelevant: the latest painted answer's mask."""
    found: dict[int, NDArray[np.bool_] | None] = {}
    for each in files.standing():
        if each["answer"] in COUNTED:
            found[each["sample_id"]] = files.mask(each["mask_sha256"])
    return {sample: mask for sample, mask in found.items() if mask is not None}


def _inside(evidence: NDArray[np.float64], mask: NDArray[np.bool_]) -> float:
    """The share of what is positive that lies inside the mask: every cell is cut into parts of a pixel."""
    cells, (height, width) = evidence.shape[0], mask.shape
    fine = np.repeat(np.repeat(mask, cells, axis=0), cells, axis=1)  # (cells * height, cells * width)
    covered = fine.reshape(cells, height, cells, width).mean(axis=(1, 3))
    positive = evidence.clip(0)
    return float((positive * covered).sum() / positive.sum())


def check_machine(visit: Visit, files: Files) -> None:
    """Queues, projects, and the disk."""
    wait_until(lambda: "is being measured" not in visit("/machine"))
    page = Page(visit("/machine"))
    connection = sqlite3.connect(f"file:{files.directory / 'dbos.sqlite'}?mode=ro", uri=True)
    waiting = connection.execute(
        "SELECT queue_name, status, count(*) FROM workflow_status WHERE queue_name IS NOT NULL AND status IN "
        "('ENQUEUED', 'PENDING', 'DELAYED') GROUP BY queue_name, status"
    ).fetchall()
    connection.close()
    for queue, state, count in waiting:
        if not queue.startswith("_dbos"):
            assert f"{count} {state.lower()} in the queue {queue}" in page.text
    assert f"of {_bytes(shutil.disk_usage(files.directory).total)} are free" in page.text
    for kind in ("masks", "versions"):
        used = sum(
            (Path(folder) / name).lstat().st_size
            for folder, _, names in os.walk(files.directory / kind)
            for name in names
        )
        assert f"{kind} {_bytes(used)}" in page.text
    for row in files.ask("SELECT * FROM projects"):
        assert f"{row['instance']}/projects/{row['number']}/data" in page.links


def _bytes(size: float) -> str:
    """As people write it."""
    units = ["Bytes", "kB", "MB", "GB", "TB"]
    place = min(int(math.log(size, 1000)), len(units) - 1) if size >= 1 else 0
    return f"{size / 1000**place:.1f} {units[place]}" if place else f"{size:.0f} {units[0]}"


CHECKS = (
    check_start, check_rounds, check_samples, check_annotators, check_queue, check_reasons, check_machine
)  # fmt: skip
