"""The benchmark of corrections: what it draws, and that it compares as the product does."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import select
from test_benchmarks import run

from benchmarks import films
from benchmarks.correction import QUICK, RECIPES
from benchmarks.films import draw_xrays, import_phantoms, import_xrays
from imil_backend.config import load_settings
from imil_backend.images.masks.masks import mask_from_png
from imil_backend.learning.contract.checks import check_recipe
from imil_backend.learning.contract.training_job import Recipe
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.comparing.arms import ARMS
from imil_backend.loop.comparing.trainings.samples import planted
from imil_backend.store.tables import Sample

SIDE = 96
TESTED = 20  # films of the official test split


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zip like that of the X-rays: noise, two films a patient; lungs are the middle."""
    path = tmp_path_factory.mktemp("archive") / "xrays.zip"
    random = np.random.default_rng(0)
    index = io.StringIO()
    rows = csv.writer(index)
    rows.writerow(["file", "official_split", "label", "subtype", "patient"])
    lungs = np.zeros((SIDE, SIDE), bool)
    lungs[30:70, 15:80] = True
    mask = io.BytesIO()
    Image.fromarray(lungs).save(mask, "PNG")
    with zipfile.ZipFile(path, "w") as content:
        for number in range(100):
            label = "normal" if number % 4 == 0 else "pneumonia"
            split = "test" if number >= 100 - TESTED else "train"
            rows.writerow([f"{number}.jpg", split, label, label, f"person{number // 8}-{number % 4}"])
            film = io.BytesIO()
            Image.fromarray(random.integers(0, 200, (SIDE, SIDE), np.uint8)).save(film, "JPEG")
            content.writestr(f"set/images/{number}.jpg", film.getvalue())
            content.writestr(f"set/masks/{number}.png", mask.getvalue())
        content.writestr("set/index.csv", index.getvalue())
    return path


@pytest.fixture
def backend(tmp_path: Path) -> Backend:
    backend = Backend(load_settings(data_dir=tmp_path / "data"))
    backend.store.migrate()
    return backend


@pytest.mark.slow
def test_films_are_drawn_by_patient_with_the_whole_test_split(archive: Path, tmp_path: Path):
    draw_xrays(archive, tmp_path / "films", films=40)
    with (tmp_path / "films" / "index.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    splits = Counter(row["split"] for row in rows)
    assert splits["test"] == TESTED and 40 <= splits["train"] < 44
    with zipfile.ZipFile(archive) as content:
        for row in rows:
            assert (tmp_path / "films" / row["image"]).read_bytes() == content.read(f"set/{row['image']}")
    drawn = {row["group"] for row in rows if row["split"] == "train"}
    assert 2 * len(drawn) == splits["train"]  # each patient with both films


@pytest.mark.slow
@pytest.mark.parametrize("markers", [[], ["tag", "letter"]], ids=["as they are", "planted"])
def test_xrays_are_imported_with_what_a_clinician_would_paint(
    archive: Path, backend: Backend, tmp_path: Path, markers: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(films, "FILMS", 40)
    import_xrays(backend, archive, "xrays", markers, 0.9, tmp_path / "films")
    with backend.store.begin() as session:
        samples = list(session.scalars(select(Sample).where(Sample.excluded.is_(None))))
    marker, contradicting = planted(samples)
    masks = [mask_from_png(Path(each.clinician_mask or ""), each.width, each.height) for each in samples]
    if not markers:
        assert marker is None and {each.clinician_mask_means for each in samples} == {"relevant"}
        assert all(mask[30:70, 15:80].all() for mask in masks)
        return
    assert marker == "tag+letter" and {each.clinician_mask_means for each in samples} == {"irrelevant"}
    tested = [each.key in (contradicting or ()) for each in samples if each.split == "test"]
    trained = [each.key in (contradicting or ()) for each in samples if each.split != "test"]
    assert sum(tested) == pytest.approx(TESTED / 2, abs=1) and np.mean(trained) == pytest.approx(
        0.1, abs=0.05
    )
    assert all(0 < mask.mean() < 0.2 for mask in masks)


@pytest.mark.slow
def test_phantoms_train_as_in_the_quick_start_and_are_measured_where_the_letter_says_nothing(
    backend: Backend, tmp_path: Path
):
    import_phantoms(backend, "phantoms", tmp_path / "films", quick=True)
    with backend.store.begin() as session:
        samples = list(session.scalars(select(Sample)))
    assert not any(each.excluded for each in samples) and all(each.clinician_mask for each in samples)
    marker, contradicting = planted(samples)
    assert marker == "letter" and contradicting is not None
    tested = [each for each in samples if each.split == "test"]
    trained = [each for each in samples if each.split != "test"]
    assert (len(trained), len(tested)) == (42, 36)
    assert {each.name.split("/")[0] for each in trained} == {"first"}
    assert np.mean([each.key in contradicting for each in trained]) == pytest.approx(0.12, abs=0.05)
    assert np.mean([each.key in contradicting for each in tested]) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("trainable", RECIPES)
@pytest.mark.parametrize("name", ARMS)
def test_recipes_of_arms_can_be_followed(name: str, trainable: str):
    for quick in ({}, QUICK):
        check_recipe(ARMS[name].of(Recipe(**{**RECIPES[trainable], **quick})))


@pytest.mark.training
def test_it_runs_and_what_is_done_is_not_done_again(tmp_path: Path):
    figures, work = tmp_path / "figures.json", tmp_path / "work"
    command = ("-m", "benchmarks", "correction", "--quick", "--arms", "jtt", "--work", str(work))
    shown = run(*command, "--json", str(figures))
    (summary,) = json.loads(figures.read_text())["summaries"]
    (rows,) = [budget["rows"] for budget in summary["budgets"]]
    assert [row["arm"] for row in rows] == ["unchanged", "jtt"]
    assert summary["simulated"] and "PLANTED letter" in shown and "simulated clinician" in shown
    runs = work / "data" / "compare" / "phantoms" / "runs.jsonl"
    kept = runs.read_bytes()
    run(*command, "--json", str(figures))
    assert runs.read_bytes() == kept
    assert json.loads(figures.read_text())["summaries"] == [summary]
