"""The benchmark of corrections: what it plants, how it compares, and that it runs and can be interrupted."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_benchmarks import run

from benchmarks import planting
from benchmarks.correction import ARMS, Results, Setting, complete
from benchmarks.planting import Films, agreements, draw_phantoms, plant, plant_in_xrays
from imil_backend.images.masks.masks import mask_from_png
from imil_backend.images.phantoms import AGREEMENT
from imil_backend.learning.child.state.checkpoint import load_state, save_state
from imil_backend.learning.contract.backbones import DEFAULT_BACKBONE
from imil_backend.learning.contract.checks import check_recipe
from imil_backend.learning.networks.network import ModelConfig, Tail, build_network, save_model

SIDE = 224
SETTING = Setting("phantoms", "letter", 0.88, 0.04, "marker", "layer4", quick=True)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zip like that of the X-rays: noise, two films a patient; lungs are the middle."""
    path = tmp_path_factory.mktemp("archive") / "xrays.zip"
    random = np.random.default_rng(0)
    index = io.StringIO()
    rows = csv.writer(index)
    rows.writerow(["file", "official_split", "label", "subtype", "patient"])
    lungs = np.zeros((SIDE, SIDE), bool)
    lungs[80:160, 40:180] = True
    mask = io.BytesIO()
    Image.fromarray(lungs).save(mask, "PNG")
    with zipfile.ZipFile(path, "w") as content:
        for number in range(100):
            label = "normal" if number % 4 == 0 else "pneumonia"
            split = "test" if number >= 80 else "train"
            rows.writerow([f"{number}.jpg", split, label, label, f"person{number // 8}-{number % 4}"])
            film = io.BytesIO()
            Image.fromarray(random.integers(0, 200, (SIDE, SIDE), np.uint8)).save(film, "JPEG")
            content.writestr(f"set/images/{number}.jpg", film.getvalue())
            content.writestr(f"set/masks/{number}.png", mask.getvalue())
        content.writestr("set/index.csv", index.getvalue())
    return path


@pytest.fixture
def planted(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Plants in 40 films to train on and 16 to validate."""
    monkeypatch.setattr(planting, "FILMS", {"train": 40, "validation": 16})

    def make(**changes: Any) -> Films:
        given = {"kinds": ["square"], "agreement": 0.9, "surroundings": False, "image_size": 56, "seed": 3}
        return plant_in_xrays(archive, tmp_path / "films", **{**given, **changes})

    return make


def mask_of(films: Films, key: str) -> np.ndarray:
    return mask_from_png(Path(films.painted[key].path), SIDE, SIDE)


@pytest.mark.slow
def test_films_are_drawn_by_patient_and_markers_agree_as_often_as_was_asked(planted: Any):
    films = planted()
    splits = {name: [each for each in films.samples if each.split == name] for name in planting.FILMS}
    tested = [each for each in films.samples if each.split == "test"]
    assert {name: len(found) for name, found in splits.items()} == {"train": 40, "validation": 16}
    assert not {each.group for each in splits["train"]} & {each.group for each in splits["validation"]}
    assert films.painted.keys() == {each.key for each in splits["train"]}
    for samples, share in ((splits["train"], 0.9), (splits["validation"], 0.9), (tested, 0.5)):
        for label in (0, 1):
            of_class = [each for each in samples if each.label == label]
            contradicting = sum(each.key in films.contradicting for each in of_class)
            assert contradicting == len(of_class) - round(share * len(of_class))


@pytest.mark.slow
def test_the_side_of_the_square_tells_the_class_and_its_mask_is_a_pixel_wider(planted: Any):
    films = planted()
    for sample in films.samples:
        told = sample.label if sample.key not in films.contradicting else 1 - sample.label
        tag = np.asarray(Image.open(sample.image)) == planting.BRIGHTNESS
        rows, columns = np.nonzero(tag)
        assert tag.sum() >= 22 * 22 and rows.max() < 0.2 * SIDE
        assert (columns.min() > SIDE / 2) == bool(told)
        if sample.split == "train":
            mask = mask_of(films, sample.key)
            assert mask[tag].all()
            assert mask.sum() == (22 + 2 * 4) ** 2  # 4 pixels of 224 are one of 56


@pytest.mark.slow
def test_all_but_the_lungs_is_painted_where_that_is_asked(planted: Any):
    films = planted(kinds=["tube"], surroundings=True)
    masks = {key: mask_of(films, key) for key in films.painted}
    assert all(films.painted[key].outside and mask[:80].all() for key, mask in masks.items())
    assert all(0 < mask[80:160, 40:180].sum() < 0.2 * 80 * 140 for mask in masks.values())  # the tube


def test_films_as_they_are_have_no_marker(planted: Any, archive: Path):
    films = planted(kinds=[], surroundings=True)
    with zipfile.ZipFile(archive) as content:
        for sample in films.samples:
            assert Path(sample.image).read_bytes() == content.read(f"set/images/{sample.key}")
    assert not films.contradicting
    assert len(films.painted) == 40


@pytest.mark.parametrize("kinds", [[kind] for kind in planting.MARKERS] + [["square", "letter"]])
def test_markers_of_each_kind_differ_between_classes_and_are_found_whole(kinds: list[str]):
    film = Image.new("L", (200, 160), 60)
    markers = []
    for told in (0, 1):
        marked, where = plant(film, kinds, told, np.random.default_rng(0))
        np.testing.assert_array_equal(np.asarray(marked) != 60, where)
        markers.append(where)
    assert markers[1].any()
    assert (markers[0] ^ markers[1]).sum() > 0.5 * markers[1].sum()


@pytest.mark.slow
def test_the_letters_of_phantoms_are_found(tmp_path: Path):
    films = draw_phantoms(tmp_path, count=100, size=128, surroundings=False, image_size=64, seed=1)
    train = [each for each in films.samples if each.split == "train"]
    expected = 2 * (35 - round(35 * AGREEMENT["train"]))
    assert sum(each.key in films.contradicting for each in train) == expected
    for sample in train:
        mask = mask_from_png(Path(films.painted[sample.key].path), 128, 128)
        told_lesion = (sample.label == 1) != (sample.key in films.contradicting)
        columns = np.nonzero(mask)[1]
        assert 0.003 < mask.mean() < 0.03
        assert (columns.max() < 0.25 * 128) == told_lesion
        corners = np.where(mask, 0, np.asarray(Image.open(sample.image)))[:25]
        assert max(corners[:, :25].max(), corners[:, -25:].max()) < 225  # no letter is left


def test_agreement_is_exact_in_each_class():
    labels = np.array([0] * 20 + [1] * 60)
    agrees = agreements(labels, 0.95, np.random.default_rng(0))
    assert [agrees[labels == label].sum() for label in (0, 1)] == [19, 57]


@pytest.mark.parametrize("trainable", ["layer4", "all"])
@pytest.mark.parametrize("name", ARMS)
def test_recipes_of_arms_can_be_followed(name: str, trainable: str):
    setting = Setting("xrays", "square", 0.95, 0.04, "marker", trainable, quick=False)
    recipe = setting.recipe
    check_recipe(type(recipe)(**{**vars(recipe), **ARMS[name].recipe}))


@pytest.mark.slow
def test_the_last_stage_goes_on_in_the_whole_network_with_its_momentum(tmp_path: Path):
    network = build_network(2, "v1")
    save_model(tmp_path / "model.safetensors", network, ModelConfig(("a", "b"), 32, 1, "v1"))
    tail = Tail(network, DEFAULT_BACKBONE, "layer4")
    optimizer = torch.optim.SGD(tail.parameters(), 0.1, 0.9)
    tail(torch.randn(4, 1024, 2, 2)).square().sum().backward()
    optimizer.step()
    saved = {"network": tail.state_dict(), "optimizer": optimizer.state_dict()}
    save_state(tmp_path / "intermediate.pt", saved)

    complete(tmp_path / "intermediate.pt", tmp_path / "model.safetensors")

    state, other = load_state(tmp_path / "intermediate.pt"), build_network(2, "v1")
    other.load_state_dict(state["network"])
    resumed = torch.optim.SGD(other.parameters(), 0.1, 0.9)
    resumed.load_state_dict(state["optimizer"])
    trained = dict(tail.named_parameters())
    for name, parameter in other.named_parameters():
        assert torch.equal(parameter, dict(network.named_parameters())[name]), name
        assert (parameter in resumed.state) == (name in trained)
        if name in trained:
            expected = optimizer.state[trained[name]]["momentum_buffer"]
            assert torch.equal(resumed.state[parameter]["momentum_buffer"], expected), name


def test_a_line_that_a_kill_cut_off_is_forgotten(tmp_path: Path):
    path = tmp_path / "results.jsonl"
    results = Results(path)
    for arm in ("unchanged", "blackout"):
        results.add({"setting": vars(SETTING), "seed": 0, "arm": arm})
    path.write_bytes(path.read_bytes()[:-10])
    again = Results(path)
    assert again.find(SETTING, 0, "unchanged") is not None
    assert again.find(SETTING, 0, "blackout") is None
    again.add({"setting": vars(SETTING), "seed": 0, "arm": "blackout"})
    assert len(Results(path).lines) == 2


@pytest.mark.training
def test_it_runs_and_what_is_done_is_not_done_again(tmp_path: Path):
    figures, work = tmp_path / "figures.json", tmp_path / "work"
    command = ("-m", "benchmarks", "correction", "--quick", "--arms", "counterexample")
    shown = run(*command, "--work", str(work), "--json", str(figures))
    (summary,) = json.loads(figures.read_text())["summaries"]
    assert [row["arm"] for row in summary["rows"]] == ["unchanged", "counterexample"]
    assert summary["simulated"] and "phantoms (drawn)" in shown and "simulated clinician" in shown
    assert [path.name for path in work.iterdir()] == ["results.jsonl"]
    kept = (work / "results.jsonl").read_text()
    run(*command, "--work", str(work), "--json", str(figures))
    assert (work / "results.jsonl").read_text() == kept
    assert json.loads(figures.read_text())["summaries"] == [summary]
