"""Copies of data sets with a planted marker."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imil_backend.errors import DatasetError, SettingsError
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.comparing.planting import TABLE, Plan, Planting, plan_planting, write_planted
from imil_backend.loop.importing.importing import import_dataset

pytestmark = pytest.mark.slow  # some dozens of pictures, drawn

SIDE = 48


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """A table of 80 films, two a patient, of a given test split and a broken one."""
    folder = tmp_path / "films"
    folder.mkdir()
    lines = ["image,label,split,group"]
    random = np.random.default_rng(0)
    for number in range(80):
        label = ("fit", "sick")[number // 2 % 2]
        Image.fromarray(random.integers(0, 200, (SIDE, SIDE), np.uint8)).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{label},{'test' if number < 20 else 'train'},patient-{number // 2}")
    (folder / "broken.png").touch()
    lines.append("broken.png,sick,train,patient-99")
    (folder / "films.csv").write_text("\n".join(lines))
    return folder


def plan(backend: Backend, films: Path, **changes: object) -> Plan:
    given = {"markers": ("tag",), "agreement": 0.9, "seed": 3}
    return plan_planting(backend, films, Planting(**{**given, **changes}), unpack_to=films.parent / "zip")


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_marker_agrees_as_often_as_was_asked_in_each_class_and_split(backend: Backend, films: Path):
    planned = plan(backend, films, validation_agreement=0.5)
    for split, share in (("train", 0.9), ("validation", 0.5), ("test", 0.5)):
        for label in (0, 1):
            own = [each for each in planned.images if (each.split, each.label) == (split, label)]
            assert sum(each.told == label for each in own) == round(share * len(own))
    assert planned.counts()["test"] == (20, 10)
    assert list(planned.left_out) == ["broken.png"]


def test_test_split_and_groups_of_the_source_are_kept(backend: Backend, films: Path):
    planned = plan(backend, films)
    splits = defaultdict(set)
    for each in planned.images:
        splits[each.group].add(each.split)
        assert (each.split == "test") == (each.row.split == "test")
    assert len(splits) == 40 and all(len(found) == 1 for found in splits.values())


def test_the_copy_says_planted_and_can_be_imported_with_its_masks(backend: Backend, films: Path):
    planned, seen = plan(backend, films), []
    table = write_planted(backend, planned, films.parent / "copy", lambda *step: seen.append(step))
    rows = rows_of(table)
    assert table.name == TABLE and seen[-1] == (80, 80) and len(rows) == 80
    for row in rows:
        assert "planted" in row["image"] and (row["tells"] != row["label"]) == (row["contradicts"] == "1")
        film = np.asarray(Image.open(table.parent / row["image"]))
        mask = np.asarray(Image.open(table.parent / row["mask"]))
        changed = film != np.asarray(Image.open(films / row["source"]))
        assert mask.dtype == bool and changed.any() and mask[changed].all()
        assert (np.nonzero(changed)[1].min() > SIDE / 2) == (row["tells"] == "sick")
    report = import_dataset(backend, table.parent, mask_means="irrelevant")
    assert (report.added, report.set_aside) == (80, ())
    assert {split: sum(found.values()) for split, found in report.counts.items()} == {
        split: images for split, (images, _) in planned.counts().items()
    }


def test_the_same_seed_plants_the_same_bits(backend: Backend, films: Path):
    tables = [write_planted(backend, plan(backend, films), films.parent / name) for name in ("one", "two")]
    one, two = ({path.name: path.read_bytes() for path in table.parent.rglob("*.*")} for table in tables)
    assert one == two


def test_copies_of_an_image_are_not_hidden_by_their_markers(backend: Backend, films: Path):
    (films / "70.png").write_bytes((films / "3.png").read_bytes())  # of a test film, in training
    assert plan(backend, films).left_out["70.png"] == "copy in test"


def test_what_cannot_be_planted_is_refused(backend: Backend, films: Path):
    with pytest.raises(SettingsError, match="from 0 to 1"):
        plan(backend, films, agreement=95)
    with pytest.raises(SettingsError, match="no marker"):
        plan(backend, films, markers=("cross",))
    with pytest.raises(DatasetError, match="not empty"):
        write_planted(backend, plan(backend, films), films)
