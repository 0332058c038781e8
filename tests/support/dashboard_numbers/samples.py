"""The page of samples."""

from __future__ import annotations

import re

import numpy as np
from support.dashboard_numbers.files import COUNTED, Files, champions_validation, dice_of, masks_of
from support.dashboard_numbers.page import Page, Visit


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
    for name in {files.who(each) for each in files.standing()}:
        own = {each["sample_id"] for each in files.standing() if files.who(each) == name}
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
        for key, (label, values) in champions_validation(files).items()
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
        painted = masks_of(files, own)
        if len({each["answer"] for each in own.values()}) > 1 or (len(painted) > 1 and dice_of(painted) < 1):
            found.add(sample)
    return found
