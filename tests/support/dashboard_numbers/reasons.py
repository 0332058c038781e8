"""The page of reasons."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from support.dashboard_numbers.estimates import Metric, check_estimate
from support.dashboard_numbers.files import COUNTED, Files
from support.dashboard_numbers.page import Page, Visit

PLACES = 56  # a side of an image


def check_reasons(visit: Visit, files: Files) -> None:
    """Evidence inside painted pixels, before and after, with intervals; the means of what was painted."""
    page = Page(visit("/datasets/1/reasons"))
    (after,) = files.ask(
        "SELECT versions.* FROM versions JOIN rounds ON version_id = versions.id WHERE parent_id IS NOT NULL "
        "AND state = 'closed' ORDER BY rounds.number DESC LIMIT 1"
    )
    answers, simulated = files.given(
        "answer = 'blackout' AND rounds.number <= (SELECT number FROM rounds WHERE version_id = ?)",
        after["id"],
    )
    told = f"Simulated: {simulated} of {answers} painted answers up to this round"
    assert (told in page.text) == bool(simulated)
    before = files.ask("SELECT * FROM versions WHERE id = ?", after["parent_id"])[0]
    evidence = [_evidence(each) for each in (before, after)]
    samples = {row["id"]: row for row in files.ask("SELECT * FROM samples")}
    masks = {samples[number]["key"]: mask for number, mask in _training_masks(files, after).items()}
    measured = defaultdict(list)
    for row in samples.values():
        key, mask = row["key"], masks.get(row["key"])
        if mask is not None and all(key in each and each[key].clip(0).any() for each in evidence):
            old, new = (_inside(each[key], mask) for each in evidence)
            for title in ("All", row["label"]):
                measured[title].append((row["group"], mask.mean(), old, new))
    for title, values in measured.items():
        groups = [group for group, *_ in values]
        count = len(set(groups))
        row = page.row(f"{title} ({len(values)} in {count} group{'' if count == 1 else 's'})")
        share, old, new = (np.array([each[place] for each in values], float) for place in (1, 2, 3))
        assert row[1] == f"{share.mean():.3f}"
        check_estimate(row[2], Metric.of_mean("before", old, groups))
        check_estimate(row[3], Metric.of_mean("after", new, groups))
        check_estimate(row[4], Metric.of_mean("difference", new - old, groups), least=-1.0)
    for label in {row["label"] for row in samples.values() if row["key"] in masks}:
        own = [masks[row["key"]] for row in samples.values() if row["label"] == label and row["key"] in masks]
        most = sum(_places(mask) for mask in own).max()
        count = f"{len(own)} sample{'' if len(own) == 1 else 's'}"
        told = f"{label} : {count}; the place that was painted most often, in {most} of {len(own)}"
        assert told in page.text


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


def _training_masks(files: Files, version: sqlite3.Row) -> dict[int, NDArray[np.bool_]]:
    """By sample, what its training took for irrelevant: the mask of the latest answer up to its round."""
    asked = files.ask(
        "SELECT id FROM tasks WHERE round_id <= (SELECT id FROM rounds WHERE version_id = ?)", version["id"]
    )
    until = {row["id"] for row in asked}
    found: dict[int, NDArray[np.bool_] | None] = {}
    for each in files.standing():
        if each["answer"] in COUNTED and each["task_id"] in until:
            found[each["sample_id"]] = files.mask(each["mask_sha256"])
    return {sample: mask for sample, mask in found.items() if mask is not None}


def _places(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """1 where a mask touches one of the places of an image; a pixel touches those that it overlaps."""
    touched = np.zeros((PLACES, PLACES), int)
    height, width = mask.shape
    for row, column in np.argwhere(mask):
        touched[_overlapped(row, height), _overlapped(column, width)] = 1
    return touched


def _overlapped(pixel: int, side: int) -> slice:
    return slice(PLACES * pixel // side, -(-PLACES * (pixel + 1) // side))


def _inside(evidence: NDArray[np.float64], mask: NDArray[np.bool_]) -> float:
    """The share of what is positive that lies inside the mask: every cell is cut into parts of a pixel."""
    cells, (height, width) = evidence.shape[0], mask.shape
    fine = np.repeat(np.repeat(mask, cells, axis=0), cells, axis=1)  # (cells * height, cells * width)
    covered = fine.reshape(cells, height, cells, width).mean(axis=(1, 3))
    positive = evidence.clip(0)
    return float((positive * covered).sum() / positive.sum())
