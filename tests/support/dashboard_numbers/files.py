"""What a data directory holds, read without the product's code."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

COUNTED = ("blackout", "nothing", "label_wrong", "unreadable")  # the answers that count
_WORDS = {"blackout": "painted", "nothing": "nothing to black out"}  # of the others, underscores are spaces
LEAVING = ("label_wrong", "unreadable")


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

    def given(self, which: str = "1", *values: object) -> tuple[int, int]:
        """How many answers count, to what rounds asked, and how many of these are simulated."""
        found = self.ask(
            "SELECT simulated FROM annotations JOIN tasks ON tasks.id = task_id JOIN rounds ON rounds.id = "
            "round_id WHERE NOT annotations.deleted AND purpose = 'asked' AND answer IN "
            f"{COUNTED} AND {which}",
            *values,
        )
        return len(found), sum(row[0] for row in found)

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


def moment(stored: str) -> str:
    """A moment of the database as pages write it."""
    return f"{stored[:16]} UTC"


def dice_of(masks: Iterable[NDArray[np.bool_]]) -> float:
    """The mean Dice coefficient over all pairs."""
    both = [(2 * (a & b).sum(), a.sum() + b.sum()) for a, b in combinations(masks, 2)]
    return fmean(float(shared / total) if total else 1.0 for shared, total in both)


def champions_validation(files: Files) -> dict[str, tuple[int, list[float]]]:
    """What the champion predicted of the validation split, by key."""
    return files.predicted(files.champion(), "validation")


def masks_of(files: Files, readings: Mapping[int | None, sqlite3.Row]) -> list[NDArray[np.bool_]]:
    """What the readers of one sample painted; who found nothing to paint, painted nothing."""
    staying = [each for each in readings.values() if each["answer"] not in LEAVING]
    masks = [files.mask(each["mask_sha256"]) for each in staying]
    shape = next((each.shape for each in masks if each is not None), (1, 1))
    return [np.zeros(shape, bool) if each is None else each for each in masks]


def in_words(answer: str) -> str:
    """What pages call an answer."""
    return _WORDS.get(answer, answer.replace("_", " "))
