import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imil_backend.errors import SettingsError
from imil_backend.images.phantoms import CLASSES, SPLITS, write_phantoms

pytestmark = pytest.mark.slow  # some hundred pictures, drawn

COLUMNS = "image label split group mask letter_mask marker contradicts"
COUNT = 80
SIDE = 128


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("phantoms")
    assert write_phantoms(path, COUNT, size=SIDE) == path / "index.csv"
    return path


@pytest.fixture(scope="module")
def rows(directory):
    with (directory / "index.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def pixels(directory: Path, name: str) -> np.ndarray:
    with Image.open(directory / name) as image:
        return np.asarray(image)


def letter(film: np.ndarray) -> str:
    side = film.shape[1] // 8
    left, right = film[: 2 * side, : 2 * side].max(), film[: 2 * side, -2 * side :].max()
    return "R" if left > right else "L"


def test_index_lists_what_was_drawn(directory, rows):
    assert len(rows) == COUNT
    assert list(rows[0]) == COLUMNS.split()
    for row in rows:
        film, mask = pixels(directory, row["image"]), pixels(directory, row["mask"])
        assert (film.dtype, mask.dtype) == (np.uint8, bool)
        assert film.shape == mask.shape == (SIDE, SIDE)
        assert 0.15 < mask.mean() < 0.45


def test_every_split_holds_both_classes_in_balance(rows):
    for split in SPLITS:
        labels = [row["label"] for row in rows if row["split"] == split]
        assert abs(labels.count(CLASSES[0]) - labels.count(CLASSES[1])) <= 1


def test_no_patient_is_in_two_splits(rows):
    splits = defaultdict(set)
    for row in rows:
        splits[row["group"]].add(row["split"])
    assert len(splits) > COUNT / 4
    assert all(len(of_patient) == 1 for of_patient in splits.values())


def test_letter_goes_with_the_class_in_training_only(directory, rows):
    agrees = defaultdict(list)
    for row in rows:
        marked = letter(pixels(directory, row["image"]))
        agrees[row["split"]].append(marked == {"normal": "L", "lesion": "R"}[row["label"]])
    assert 0.85 <= np.mean(agrees["train"]) <= 0.9
    assert np.mean(agrees["validation"]) == pytest.approx(0.5, abs=0.1)
    assert np.mean(agrees["test"]) == pytest.approx(0.5, abs=0.1)


def test_the_letter_is_known_exactly(directory, rows):
    for row in rows:
        film, letters = pixels(directory, row["image"]), pixels(directory, row["letter_mask"])
        assert letters.dtype == bool
        corners = np.where(letters, 0, film)[: SIDE // 4]
        assert 0.003 < letters.mean() < 0.03
        assert max(corners[:, : SIDE // 4].max(), corners[:, -SIDE // 4 :].max()) < 225  # none is left
        told = {"L": "normal", "R": "lesion"}[letter(film)]
        assert (row["contradicts"] == "1") == (told != row["label"])


def test_letter_lies_outside_the_lungs(directory, rows):
    for row in rows:
        film, lungs = pixels(directory, row["image"]), pixels(directory, row["mask"])
        assert not (lungs & (film >= 245)).any()
        corners = film[: SIDE // 4].copy()
        corners[:, SIDE // 4 : -SIDE // 4] = 0
        assert (corners >= 240).any()


def test_lesion_brightens_the_lungs_and_nothing_else(directory, tmp_path, rows, monkeypatch):
    monkeypatch.setattr("imil_backend.images.phantoms._lesion", lambda x, *_: np.zeros_like(x))
    write_phantoms(tmp_path, COUNT, size=SIDE)
    for row in rows[:30]:
        with_lesion, without = (
            pixels(directory, row["image"]).astype(int),
            pixels(tmp_path, row["image"]).astype(int),
        )
        assert np.array_equal(with_lesion, without) == (row["label"] == "normal")


def test_same_seed_same_files(tmp_path, directory):
    write_phantoms(tmp_path, COUNT, size=SIDE)
    for path in sorted(directory.rglob("*.*")):
        assert (tmp_path / path.relative_to(directory)).read_bytes() == path.read_bytes()


def test_another_seed_draws_others(tmp_path, directory, rows):
    write_phantoms(tmp_path, COUNT, size=SIDE, seed=1)
    assert not np.array_equal(pixels(tmp_path, rows[0]["image"]), pixels(directory, rows[0]["image"]))


def test_progress_and_limits(tmp_path):
    calls = []
    write_phantoms(tmp_path, 40, size=64, progress=lambda done, total: calls.append((done, total)))
    assert calls[0] == (1, 40) and calls[-1] == (40, 40)
    with pytest.raises(SettingsError, match="at least 40"):
        write_phantoms(tmp_path, 10)
