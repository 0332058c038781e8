"""X-rays and phantoms as data sets for comparisons: drawn by patient, as they are or with planted markers."""

from __future__ import annotations

import csv
import io
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.report import group_of
from imil_backend.images.phantoms import write_phantoms
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.comparing.planting import Planting, plan_planting, write_planted
from imil_backend.loop.importing.importing import import_dataset
from imil_backend.loop.sources.read_source import Columns

FILMS = 1000  # of the official training split, to train on and to validate; of the official test split all
PHANTOMS = {"first": 1000, "second": 2000}  # lots: the quick start's, and others to measure on; seeds 0, 1
PHANTOM_SIZE = 256
QUICK_PHANTOMS, QUICK_SIZE = {"first": 60, "second": 60}, 64


def import_xrays(
    backend: Backend, archive: Path, name: str, markers: Sequence[str], agreement: float, directory: Path
) -> None:
    """Import the X-rays under a name: as they are, with lung masks, or a copy with planted markers.

    Args:
        backend: where to.
        archive: the zip of X-rays, with index.csv.
        name: of the dataset.
        markers: of `imil plant`; none: as they are.
        agreement: share of each class whose marker tells it, in training and validation; in test half.
        directory: where films and copies are written.
    """
    films = directory / "films"
    if not (films / "index.csv").exists():
        draw_xrays(archive, films)
    if not markers:
        import_dataset(backend, films, name=name, mask_means="relevant")
        return
    copy = directory / name
    with tempfile.TemporaryDirectory() as nothing:
        plan = plan_planting(backend, films, Planting(tuple(markers), agreement), unpack_to=Path(nothing))
    write_planted(backend, plan, copy)
    import_dataset(backend, copy, name=name, mask_means="irrelevant")


def import_phantoms(backend: Backend, name: str, directory: Path, *, quick: bool) -> None:
    """Import phantoms under a name, with their letters as masks.

    The training phantoms of the quick start are trained on; a comparison draws its validation split from
    them, too. It is measured on the validation and test phantoms of this lot and of a second one, 900 in
    which the letter says nothing: the 150 of the quick start's test split would tell too little.
    """
    folder = directory / name
    lines: list[dict[str, str]] = []
    for seed, (lot, count) in enumerate((QUICK_PHANTOMS if quick else PHANTOMS).items()):
        index = write_phantoms(folder / lot, count, size=QUICK_SIZE if quick else PHANTOM_SIZE, seed=seed)
        with index.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        index.unlink()
        lines += [_of_lot(row, lot) for row in rows if row["split"] != "train" or lot == "first"]
    with (folder / "index.csv").open("w", newline="", encoding="utf-8") as file:
        written = csv.DictWriter(file, list(lines[0]))
        written.writeheader()
        written.writerows(lines)
    import_dataset(backend, folder, name=name, columns=Columns(mask="letter_mask"), mask_means="irrelevant")


def _of_lot(row: dict[str, str], lot: str) -> dict[str, str]:
    paths = {name: f"{lot}/{row[name]}" for name in ("image", "mask", "letter_mask")}
    split = "train" if row["split"] == "train" else "test"
    return {**row, **paths, "split": split, "group": f"{lot}-{row['group']}"}


def draw_xrays(archive: Path, directory: Path, films: int = FILMS) -> None:
    """Unpack so many films of the official training split, drawn by patient, and all test films.

    With their lung masks, and an index.csv that is written last: image, label, split, group, mask.
    """
    for folder in ("images", "masks"):
        (directory / folder).mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive) as content:
        index = next(name for name in content.namelist() if name.endswith("index.csv"))
        rows = list(csv.DictReader(io.StringIO(content.read(index).decode())))
        lines = []
        for row in _drawn(rows, films):
            mask = f"masks/{Path(row['file']).stem}.png"
            image = f"images/{row['file']}"
            for path in (image, mask):
                (directory / path).write_bytes(content.read(f"{Path(index).parent}/{path}"))
            lines.append([image, row["label"], row["official_split"], group_of(row), mask])
    with (directory / "index.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["image", "label", "split", "group", "mask"], *lines])


def _drawn(rows: list[dict[str, str]], films: int) -> list[dict[str, str]]:
    by_group: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        if row["official_split"] == "train":
            by_group.setdefault(group_of(row), []).append(row)
    groups = sorted(by_group)
    chosen: list[dict[str, str]] = []
    for place in np.random.default_rng(0).permutation(len(groups)):
        if len(chosen) < films:
            chosen.extend(by_group[groups[place]])
    return [*chosen, *(row for row in rows if row["official_split"] == "test")]
