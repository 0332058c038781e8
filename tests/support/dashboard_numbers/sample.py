"""The page of a sample."""

from __future__ import annotations

import json
import re
import sqlite3
from itertools import dropwhile, islice, takewhile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file
from support.dashboard_numbers.files import COUNTED, LEAVING, Files, dice_of, in_words, masks_of, moment
from support.dashboard_numbers.page import Page, Visit

HEADS = ("Version", "By", "At (UTC)")  # of the tables, the first cells
OTHERS = 2  # samples of each split that nobody was asked about


def check_sample(visit: Visit, files: Files) -> None:
    """Of every sample that was asked about, and of some others: all of its page."""
    asked = {row[0] for row in files.ask("SELECT sample_id FROM tasks")}
    samples = files.ask("SELECT * FROM samples ORDER BY id")
    for split in ("train", "validation", "test"):
        others = [row["id"] for row in samples if row["split"] == split and row["id"] not in asked]
        asked |= set(others[:OTHERS])
    evidence = {row["id"]: _said(row) for row in files.ask("SELECT * FROM versions ORDER BY id")}
    for sample in samples:
        if sample["id"] in asked:
            _check(Page(visit(f"/datasets/1/samples/{sample['key']}")), sample, evidence, files)


def _said(version: sqlite3.Row) -> dict[str, NDArray[np.float64]]:
    """The probabilities of the classes, by sample: with its class evidence, or else with its predictions."""
    path, found = Path(version["directory"], "evidence.safetensors"), {}
    if not path.exists():
        predicted = json.loads(path.with_name("predictions.json").read_text())
        for split in predicted.values():
            found |= dict(zip(split["keys"], map(np.array, split["probabilities"]), strict=True))
        return found
    tensors = load_file(path)
    for name in tensors:
        split, _, kind = name.partition(".")
        if kind == "keys":
            keys = [bytes(row).rstrip(b"\0").decode() for row in tensors[name]]
            found |= dict(zip(keys, tensors[f"{split}.probabilities"].astype(np.float64), strict=True))
    return found


def _check(
    page: Page, sample: sqlite3.Row, said: dict[int, dict[str, NDArray[np.float64]]], files: Files
) -> None:
    name, key, label, split, group = (sample[name] for name in ("name", "key", "label", "split", "group"))
    with Image.open(sample["path"]) as image:
        size = f"{image.width} x {image.height} pixels"
    facts = f"Key {key} Label {label} Split {split} Group {group} Size {size}"
    assert f"Sample {name} {facts}" in page.text
    _check_versions(page, sample, said, files)
    _check_answers(page, sample, files)
    _check_history(page, sample, files)
    tasks = files.ask(
        "SELECT instance, projects.number, tasks.number FROM tasks JOIN projects ON projects.id = project_id "
        "WHERE sample_id = ? AND NOT deleted",
        sample["id"],
    )
    assert [link for link in page.links if "task=" in link] == [
        f"{instance}/projects/{project}/data?task={task}" for instance, project, task in tasks
    ]


def _check_versions(
    page: Page, sample: sqlite3.Row, said: dict[int, dict[str, NDArray[np.float64]]], files: Files
) -> None:
    """The probability of the label, and which two versions' evidence is shown."""
    classes, key, rows = files.classes(), sample["key"], _table(page, "Version")
    rounds = {row["version_id"]: row for row in files.ask("SELECT * FROM rounds ORDER BY number")}
    versions = {row["id"]: row for row in files.ask("SELECT * FROM versions ORDER BY id")}
    assert len(rows) == len(versions)
    for (name, round_, predicted, probability), version in zip(rows, versions.values(), strict=True):
        assert name == version["name"]
        assert round_ == (str(rounds[version["id"]]["number"]) if version["id"] in rounds else "-")
        found = said[version["id"]].get(key)
        if found is None:
            assert (predicted, probability) == ("not kept", "-")
        else:
            says = classes[int(found.argmax())]
            assert predicted == (says if says == sample["label"] else f"{says} (wrong)")
            assert abs(float(probability) - found[classes.index(sample["label"])]) < 0.0006
    shown = [
        (row["number"], versions[versions[number]["parent_id"]]["name"], versions[number]["name"])
        for number, row in rounds.items()
        if row["state"] == "closed" and number and versions[number]["parent_id"]
        if all(
            key in said[each] and Path(versions[each]["directory"], "evidence.safetensors").exists()
            for each in (number, versions[number]["parent_id"])
        )
    ]
    assert ("before and after round" in page.text) == bool(shown)
    if shown:
        number, before, after = shown[-1]
        assert f"before and after round {number} saw what spoke for a class " in page.text
        pictures = [("Before", before, sample["label"], ""), ("After", after, sample["label"], "")]
        ids = {each["name"]: number for number, each in versions.items()}
        for when, name, label, _ in list(pictures):
            predicted = classes[int(said[ids[name]][key].argmax())]
            if predicted != label:
                pictures.append((when, name, predicted, ", predicted"))
        told = " ".join(f"{when}: {name} , for {label}{more}" for when, name, label, more in pictures)
        assert f" {told} What each version says " in page.text.replace(" , predicted", ", predicted")


def _check_answers(page: Page, sample: sqlite3.Row, files: Files) -> None:
    """Who answered what and when, and how far their masks agree."""
    own = [each for each in files.standing() if each["sample_id"] == sample["id"]]
    assert _table(page, "By") == [
        [
            files.who(each),
            in_words(each["answer"]) + (f": {each['reason']}" if each["reason"] else ""),
            "unknown" if each["lead_time"] is None else f"{each['lead_time']:.0f}",
            moment(each["label_studio_updated_at"]),
        ]
        for each in own
    ]
    latest = [each for each in own if each["answer"] in COUNTED][-1:]  # it alone counts
    leaves = [in_words(each["answer"]) for each in latest if each["answer"] in LEAVING]
    assert re.findall(r"It left training: ([\w ]+)\.", page.text) == leaves
    simulated = sum(each["simulated"] for each in own)
    told = re.findall(r"Simulated: (\d+) of (\d+) answers", page.text)
    assert told == ([(str(simulated), str(len(own)))] if simulated else [])
    painters = re.findall(r"Painted by (annotator \w+|simulated clinician)", page.text)
    assert painters == [files.who(each) for each in own if each["mask_sha256"]]
    counts = len(painters) > 1 and latest[0]["mask_sha256"] is not None
    assert ("The mask that counts: that of the latest answer" in page.text) == counts
    masks = masks_of(files, files.readings().get(sample["id"], {}))
    agreement = re.findall(r"Mean Dice between the annotators' masks: (\S+)\. ", page.text)
    assert agreement == ([f"{dice_of(masks):.2f}"] if len(masks) > 1 else [])


def _check_history(page: Page, sample: sqlite3.Row, files: Files) -> None:
    """What the audit trail tells of it."""
    entries = files.ask(
        "SELECT audit.*, versions.name AS version, rounds.number AS round FROM audit LEFT JOIN versions ON "
        "versions.id = audit.version_id LEFT JOIN rounds ON rounds.id = round_id WHERE sample_id = ? "
        "ORDER BY audit.id",
        sample["id"],
    )
    rows = _table(page, "At (UTC)")
    assert [row[:4] for row in rows] == [
        [
            each["at"][:19],
            each["event"],
            "-" if each["round"] is None else str(each["round"]),
            each["version"] or "-",
        ]
        for each in entries
    ]
    for row, entry in zip(rows, entries, strict=True):
        details = json.loads(entry["details"])
        if "annotation" in details:
            assert row[4].startswith(f"annotation {details['annotation']}, ")
            simulated = details["simulated"]
            who = "simulated clinician" if simulated else files.letters()[details["annotator"]]
            assert row[4].endswith(f"; by {who}")
        if "answer" in details:
            assert f", answer {in_words(details['answer'])}, " in row[4]
            changed = details["changed_there"][:19].replace("T", " ")
            assert f", changed in Label Studio {changed} ;" in row[4].replace(";", " ;")
        if "task" in details:
            assert row[4].startswith(f"task {details['task']}")


def _table(page: Page, first: str) -> list[list[str]]:
    """The rows of the table whose head begins with this cell."""
    own = dropwhile(lambda row: row[0] != first, page.rows)
    return list(takewhile(lambda row: row[0] not in HEADS, islice(own, 1, None)))
